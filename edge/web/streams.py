"""The answers without an end: pictures, and what happens as server-sent events.

Each runs on the thread of its own request, at a lower priority than the pipeline's. A client that reads
slowly misses what is old; one that does not read is cut off by the server's own limit.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple
from http import HTTPStatus
from wsgiref.types import StartResponse, WSGIEnvironment

import msgspec

from spillover.common.errors import Cause
from spillover.common.net.http import STREAM
from spillover.common.types import Result
from spillover.edge.results.delivery import Event
from spillover.edge.runtime.process import step_back
from spillover.edge.sinks.record import encode_event
from spillover.edge.web.answers import HEADERS, SESSION, OnRefused, Query, Session, refuse
from spillover.edge.web.hub import MAX_VIEWERS, OF_FRAMES, Hub, Listener, Shown
from spillover.edge.web.mosaic import Painter, canvas, size_of

BOUNDARY = "picture"
_PART_HEAD = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\n\r\n".encode()
"""Goes before the first picture and right after each: Chromium shows a part when the next one's head comes.

So there is no Content-Length, which would have to be known before the next picture is.
"""
REPEAT_S = 5.0
"""The last picture is sent again after so long without a new one, which finds out who has gone."""
FIRST_S = 1.0
"""How long a viewer waits for a first picture before it is shown black ones."""
FORMER_EVENTS = 32
"""Of the events before it a client is told so many."""
STATUS_S = 2.0
"""How often the status is told."""

Encode = Callable[[Result], bytes]


class Endless:
    """An answer in parts; `done` is called once, when the client has gone or the parts have ended."""

    def __init__(self, parts: Iterator[bytes], done: Callable[[], None]) -> None:
        self._parts = parts
        self._done = done
        self._is_done = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._parts)

    def close(self) -> None:
        """The server calls it at the end, however that came."""
        if not self._is_done:
            self._is_done = True
            self._done()


class Streams:
    """Serves pictures and events of a hub. `status` tells the status and the scenes as JSON."""

    def __init__(
        self, hub: Hub, painter: Painter, encode: Encode, status: Callable[[], bytes], on_refused: OnRefused
    ) -> None:
        self._hub = hub
        self._painter = painter
        self._encode = encode
        self._status = status
        self._on_refused = on_refused

    def pictures(
        self, environ: WSGIEnvironment, start_response: StartResponse, query: Query
    ) -> Iterable[bytes]:
        """The newest pictures of one camera or of all, one after the other (multipart/x-mixed-replace)."""
        if (cameras := self._cameras(query)) is None:
            return self._unknown(start_response, query)
        kind = f"multipart/x-mixed-replace; boundary={BOUNDARY}"
        if environ["REQUEST_METHOD"] == "HEAD":
            return _begin(start_response, kind, [])
        if not self._hub.take_viewer():
            return self._full(start_response)
        if not environ[STREAM]():
            self._hub.leave_viewer()
            return self._full(start_response)
        return _begin(
            start_response, kind, Endless(self._pictures(cameras, _session(environ)), self._leave_viewer)
        )

    def events(
        self, environ: WSGIEnvironment, start_response: StartResponse, query: Query
    ) -> Iterable[bytes]:
        """Results, the boxes of each picture that is shown, and the status (text/event-stream)."""
        if (cameras := self._cameras(query)) is None:
            return self._unknown(start_response, query)
        kind = "text/event-stream"
        if environ["REQUEST_METHOD"] == "HEAD":
            return _begin(start_response, kind, [])
        if (listener := self._hub.listen(cameras)) is None:
            return self._full(start_response)
        if not environ[STREAM]():
            self._hub.leave_listener(listener)
            return self._full(start_response)
        parts = self._events(cameras, listener, _session(environ))
        return _begin(start_response, kind, Endless(parts, lambda: self._hub.leave_listener(listener)))

    def _pictures(self, cameras: Sequence[str], session: Session) -> Iterator[bytes]:
        step_back()
        turn, is_open = self._hub.wait(-1, 0.0)
        if is_open and not self._hub.looks(cameras):
            turn, is_open = self._hub.wait(turn, FIRST_S)
        yield _PART_HEAD
        jpeg = b""
        while is_open and session():
            looks = self._hub.looks(cameras)
            if not (jpeg and self._hub.paused):
                jpeg = self._painter.jpeg(cameras, looks)
            yield b"%s\r\n%s" % (jpeg, _PART_HEAD)
            del looks
            turn, is_open = self._hub.wait(turn, REPEAT_S)

    def _events(self, cameras: Sequence[str], listener: Listener, session: Session) -> Iterator[bytes]:
        step_back()
        told = 0
        yield _event("status", self._status())
        told_s = self._hub.now_s()
        former = [one.item for one in self._hub.events.since(0) if one.item.kind not in OF_FRAMES]
        for event in former[-FORMER_EVENTS:]:
            yield _event("event", encode_event(event))
        while session():
            left_s = told_s + STATUS_S - self._hub.now_s()
            items = listener.take(max(0.0, left_s))
            if items is None:
                return
            if listener.dropped > told:
                told = listener.dropped
                yield _event("dropped", msgspec.json.encode({"dropped": told}))
            for item in items:
                match item:
                    case Result():
                        yield _event("result", self._encode(item))
                    case Event():
                        yield _event("event", encode_event(item))
                    case _:
                        yield _event("picture", self._picture(cameras, item))
            if self._hub.now_s() - told_s >= STATUS_S:
                yield _event("status", self._status())
                told_s = self._hub.now_s()

    def _picture(self, cameras: Sequence[str], shown: Shown) -> bytes:
        """What a picture shows, and where in the picture of all cameras each of them is."""
        looks = self._hub.looks(cameras)
        whole, tiles = canvas([size_of(looks.get(name)) for name in cameras])
        places = {name: astuple(tile) for name, tile in zip(cameras, tiles, strict=True)}
        return msgspec.json.encode(
            {
                "camera_id": shown.result.camera_id,
                "size": shown.size,
                "canvas": whole,
                "tiles": places,
                "result": msgspec.Raw(self._encode(shown.result)),
            }
        )

    def _full(self, start_response: StartResponse) -> Iterable[bytes]:
        self._on_refused(Cause.QUEUE_FULL)
        why = f"{MAX_VIEWERS} pages look already, and no more may; try again later"
        return refuse(start_response, HTTPStatus.SERVICE_UNAVAILABLE, why, [("Retry-After", "10")])

    def _leave_viewer(self) -> None:
        self._hub.leave_viewer()
        if not self._hub.viewers:
            self._painter.forget()

    def _cameras(self, query: Query) -> Sequence[str] | None:
        if (name := query.get("camera")) is None:
            return self._hub.cameras
        return (name,) if name in self._hub.cameras else None

    def _unknown(self, start_response: StartResponse, query: Query) -> Iterable[bytes]:
        names = ", ".join(self._hub.cameras)
        why = f"there is no camera {query['camera'][:64]!r}; there is {names}"
        return refuse(start_response, HTTPStatus.NOT_FOUND, why)


def _begin(start_response: StartResponse, kind: str, parts: Iterable[bytes]) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", kind), *HEADERS])
    return parts


def _session(environ: WSGIEnvironment) -> Session:
    session: Session = environ.get(SESSION, lambda: True)
    return session


def _event(name: str, data: bytes) -> bytes:
    """One event; JSON has no line breaks, which would end it."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), data)
