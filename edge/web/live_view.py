"""The live view of one daemon: its pages by path, and the hub that the pipelines feed."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from http import HTTPStatus
from importlib.resources import files
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import msgspec

from spillover.common.images import encode_jpeg
from spillover.common.types import Result
from spillover.edge.pipeline import CameraSettings
from spillover.edge.sinks.record import record_encoder, to_record
from spillover.edge.status.values import Status
from spillover.edge.stream import CameraStream
from spillover.edge.telemetry.frame_events import FrameEvents
from spillover.edge.web.answers import HEADERS, JSON, Query, guarded, refuse, send
from spillover.edge.web.hub import Hub
from spillover.edge.web.mosaic import Painter
from spillover.edge.web.streams import Streams

SNAPSHOT_S = 5.0
"""How long a snapshot waits for the camera's next frame, and for the snapshot before it."""
SNAPSHOT_QUALITY = 90
_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/live.css": ("live.css", "text/css; charset=utf-8"),
    "/live.js": ("live.js", "text/javascript; charset=utf-8"),
}


class LiveView:
    """Serves what the cameras see. `routes` go to the server of the metrics; `watch` comes before the start.

    `labels` names the classes. `clock` gives monotonic seconds.
    """

    def __init__(
        self,
        streams: Sequence[CameraStream],
        labels: Sequence[str],
        status: Callable[[], Status],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._streams = streams
        self._status = status
        self._labels = labels
        self._json = msgspec.json.Encoder()
        self._short = record_encoder(labels, inputs=False)
        self._snapshots = threading.Lock()
        self.hub = Hub({one.camera_id: _settings_of(one) for one in streams}, clock)
        self.painter = Painter()
        self._endless = Streams(self.hub, self.painter, self._full, self._state)

    def watch(self, events: FrameEvents) -> None:
        """Have the pipelines show their frames, and `events` its results."""
        for stream in self._streams:
            stream.pipeline.watch(self.hub.look)
        events.watch(self.hub.result)

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
        """The pages by their paths."""
        pages = {path: guarded(_file(*found), ["camera"]) for path, found in _FILES.items()}
        snapshots = {
            f"/api/v1/snapshot/{name}.jpg": guarded(self._snapshot_of(name)) for name in self.hub.cameras
        }
        return {
            **pages,
            "/favicon.ico": guarded(_no_icon),
            "/live.mjpg": guarded(self._endless.pictures, ["camera"]),
            "/events": guarded(self._endless.events, ["camera"]),
            "/api/v1/status": guarded(self._status_page),
            "/api/v1/results": guarded(self._results, ["since"]),
            **snapshots,
        }

    def _status_page(
        self, environ: WSGIEnvironment, start_response: StartResponse, _: Query
    ) -> Iterable[bytes]:
        return send(environ, start_response, JSON, self._json.encode(self._status()))

    def _results(
        self, environ: WSGIEnvironment, start_response: StartResponse, query: Query
    ) -> Iterable[bytes]:
        since = query.get("since", "0")
        if not (since.isascii() and since.isdigit() and len(since) <= 18):
            return refuse(start_response, HTTPStatus.BAD_REQUEST, "since: must be a number that `next` gave")
        status = self._status()
        found = self.hub.results_since(int(since))
        body = {
            "boot_id": status.boot_id,
            "next": found[-1].number if found else int(since),
            "results": [msgspec.Raw(self._short(one.result)) for one in found],
        }
        return send(environ, start_response, JSON, self._json.encode(body))

    def _snapshot_of(self, camera: str) -> Callable[..., Iterable[bytes]]:
        def answer(environ: WSGIEnvironment, start_response: StartResponse, _: Query) -> Iterable[bytes]:
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

        return answer

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
        }
        return self._json.encode({"status": self._status(), "scenes": scenes, "live": live})


def _settings_of(stream: CameraStream) -> Callable[[], CameraSettings]:
    return lambda: stream.pipeline.settings


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
