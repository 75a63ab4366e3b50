"""The live view of one daemon: its pages by path, and the hub that the pipelines feed."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from http import HTTPStatus
from importlib.resources import files
from typing import TypeVar
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import msgspec

from spillover.common.errors import Cause
from spillover.common.images import encode_jpeg
from spillover.common.types import Result
from spillover.edge.inference.predictor import Predictor
from spillover.edge.sinks.record import encode_event, record_encoder, to_record
from spillover.edge.status.build import StatusSource
from spillover.edge.stream import CameraStream
from spillover.edge.telemetry.frame_events import FrameEvents
from spillover.edge.web.answers import (
    HEADERS,
    JSON,
    POST,
    READ,
    Query,
    Respond,
    guarded,
    refuse,
    send,
)
from spillover.edge.web.gate import Gate, Sees
from spillover.edge.web.hub import Hub, Newest
from spillover.edge.web.inference import Inference
from spillover.edge.web.login import Login
from spillover.edge.web.mosaic import Painter
from spillover.edge.web.streams import Streams

SNAPSHOTS = "/api/v1/snapshot/"
SNAPSHOT_S = 5.0
"""How long a snapshot waits for the camera's next frame, and for the snapshot before it."""
SNAPSHOT_QUALITY = 90
T = TypeVar("T")
_FILES = {
    "/live.css": ("live.css", "text/css; charset=utf-8"),
    "/live.js": ("live.js", "text/javascript; charset=utf-8"),
}


class LiveView:
    """Serves what the cameras see. Its routes go to the server of the metrics; `watch` comes before all.

    `labels` names the classes. `predictor` gives what answers pictures of programs, on any thread. `gate`
    says who may look, and hears why others may not. `clock` gives monotonic seconds.
    """

    def __init__(
        self,
        streams: Sequence[CameraStream],
        labels: Sequence[str],
        predictor: Callable[[], Predictor],
        status: StatusSource,
        gate: Gate,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._streams = streams
        self._status = status
        self._labels = labels
        self._json = msgspec.json.Encoder()
        self._short = record_encoder(labels, inputs=False)
        self._snapshots = threading.Lock()
        self.hub = Hub({one.camera_id: one.settings for one in streams}, clock)
        self.painter = Painter()
        self._endless = Streams(self.hub, self.painter, self._full, self._state, gate.on_refused)
        self._gate = gate
        self._inference = Inference(
            predictor, lambda: streams[0].pipeline.in_use.report, self._short, gate.on_refused
        )

    def watch(self, events: FrameEvents) -> None:
        """Have the pipelines show their frames, and `events` its results."""
        for stream in self._streams:
            stream.pipeline.watch(self.hub.look)
        events.watch(self.hub.result, self.hub.event)

    def pause(self, reason: str) -> None:
        """Encode no pictures until `resume`, and have the page say `reason`. Any thread may call it."""
        self.hub.pause(reason)

    def resume(self) -> None:
        """Encode pictures again for whoever looks. Any thread may call it."""
        self.hub.pause("")

    def stop(self, _deadline_s: float) -> bool:
        """End all streams."""
        self.hub.close()
        return True

    @property
    def routes(self) -> Mapping[str, WSGIApplication]:
        """The pages by their paths, for those whom the gate lets through."""
        pages: dict[str, WSGIApplication] = {
            "/": self._guarded(_file("index.html", "text/html; charset=utf-8"), ["camera"]),
            "/live.mjpg": self._guarded(self._endless.pictures, ["camera"]),
            "/events": self._guarded(self._endless.events, ["camera"]),
            "/api/v1/status": self._guarded(self._status_page),
            "/api/v1/results": self._guarded(self._results, ["since"]),
            "/api/v1/events": self._guarded(self._happened, ["since"]),
            "/api/v1/infer": self._guarded(self._inference, methods=POST),
            SNAPSHOTS: self._guarded(self._snapshot_page),
        }
        return {path: self._gate.guarded(page, Sees.PICTURES) for path, page in pages.items()}

    @property
    def open_routes(self) -> Mapping[str, WSGIApplication]:
        """The pages that show nothing, for everybody."""
        files = {path: self._guarded(_file(*found)) for path, found in _FILES.items()}
        login = Login(self._gate).routes if self._gate.wants_proof else {}
        return {**files, "/favicon.ico": self._guarded(_no_icon), **login}

    def _guarded(
        self, respond: Respond, fields: Sequence[str] = (), methods: Sequence[str] = READ
    ) -> WSGIApplication:
        return guarded(respond, self._gate.on_refused, fields, methods, is_local=not self._gate.wants_proof)

    def _status_page(
        self, environ: WSGIEnvironment, start_response: StartResponse, _: Query
    ) -> Iterable[bytes]:
        return send(environ, start_response, JSON, self._json.encode(self._status()))

    def _results(
        self, environ: WSGIEnvironment, start_response: StartResponse, query: Query
    ) -> Iterable[bytes]:
        found, encode = self.hub.results, self._short
        return self._since(environ, start_response, query, "results", found, encode)

    def _happened(
        self, environ: WSGIEnvironment, start_response: StartResponse, query: Query
    ) -> Iterable[bytes]:
        return self._since(environ, start_response, query, "events", self.hub.events, encode_event)

    def _since(
        self,
        environ: WSGIEnvironment,
        start_response: StartResponse,
        query: Query,
        name: str,
        kept: Newest[T],
        encode: Callable[[T], bytes],
    ) -> Iterable[bytes]:
        """What is newer than the query's `since`, and the `since` of the next request."""
        since = query.get("since", "0")
        if not (since.isascii() and since.isdigit() and len(since) <= 18):
            self._gate.on_refused(Cause.INVALID)
            return refuse(start_response, HTTPStatus.BAD_REQUEST, "since: must be a number that `next` gave")
        found = kept.since(int(since))
        body = {
            "boot_id": self._status.boot_id,
            "next": found[-1].number if found else int(since),
            name: [msgspec.Raw(encode(one.item)) for one in found],
        }
        return send(environ, start_response, JSON, self._json.encode(body))

    def _snapshot_page(
        self, environ: WSGIEnvironment, start_response: StartResponse, _: Query
    ) -> Iterable[bytes]:
        camera = environ["PATH_INFO"].removeprefix(SNAPSHOTS).removesuffix(".jpg")
        if environ["PATH_INFO"] != f"{SNAPSHOTS}{camera}.jpg" or camera not in self.hub.cameras:
            there = ", ".join(f"{SNAPSHOTS}{name}.jpg" for name in self.hub.cameras)
            return refuse(start_response, HTTPStatus.NOT_FOUND, f"there is {there}")
        if why := self.hub.paused:
            return refuse(start_response, HTTPStatus.SERVICE_UNAVAILABLE, f"pictures are paused: {why}")
        if not self._snapshots.acquire(timeout=SNAPSHOT_S):
            return refuse(start_response, HTTPStatus.SERVICE_UNAVAILABLE, "others take snapshots now")
        try:
            jpeg = self._snapshot(camera)
        finally:
            self._snapshots.release()
        if jpeg is None:
            why = f"camera {camera} has given no picture within {SNAPSHOT_S:g} s"
            return refuse(start_response, HTTPStatus.SERVICE_UNAVAILABLE, why)
        return send(environ, start_response, "image/jpeg", jpeg)

    def _snapshot(self, camera: str) -> bytes | None:
        """The newest frame in its own size, with what is to be hidden hidden; None when none has come."""
        end_s = time.monotonic() + SNAPSHOT_S
        with self.hub.watching():
            turn, is_open = self.hub.wait(-1, 0.0)
            while is_open and (left_s := end_s - time.monotonic()) > 0:
                if look := self.hub.looks([camera]).get(camera):
                    return encode_jpeg(look.shown().image, SNAPSHOT_QUALITY).data
                turn, is_open = self.hub.wait(turn, left_s)
        return None

    def _full(self, result: Result) -> bytes:
        """A result with the decision's numbers, which the page shows, and without the tracker's."""
        return self._json.encode(to_record(result, self._labels))

    def _state(self) -> bytes:
        """What the page is told now and then: the status, and where each camera's zones and lines are."""
        scenes = {one.camera_id: _scene(one) for one in self._streams}
        live = {
            "viewers": self.hub.viewers,
            "results_dropped": self.hub.results_dropped,
            "paused": self.hub.paused,
            "login": self._gate.wants_proof,
        }
        return self._json.encode({"status": self._status(), "scenes": scenes, "live": live})


def _scene(stream: CameraStream) -> dict[str, object]:
    """Zones and lines in shares of the frame."""
    if (events := stream.pipeline.settings.events) is None:
        return {"zones": [], "lines": []}
    return {
        "zones": [{"name": one.name, "points": one.corners.tolist()} for one in events.rules.zones],
        "lines": [
            {"name": one.name, "points": [one.start.tolist(), one.end.tolist()]} for one in events.rules.lines
        ],
    }


def _file(name: str, kind: str) -> Callable[..., Iterable[bytes]]:
    body = files("spillover.edge.web").joinpath("static", name).read_bytes()

    def answer(environ: WSGIEnvironment, start_response: StartResponse, _: Query) -> Iterable[bytes]:
        return send(environ, start_response, kind, body)

    return answer


def _no_icon(_: WSGIEnvironment, start_response: StartResponse, __: Query) -> Iterable[bytes]:
    """Browsers ask for it unasked, and complain of a 404."""
    start_response("204 No Content", list(HEADERS))
    return []
