"""The streams of a device's cameras in one coding: begun, found, told what is heard of them, and let go."""

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from spillover.common.coding import MOST_NUMBER, STREAM_ID_BYTES, StreamPosition
from spillover.edge.payload.streams import KeyCause, Sender
from spillover.edge.payload.types import Payload, position_of

IDLE_S = 600.0
"""A camera that has sent nothing for so long has ended or sees nothing: what its stream takes is let go."""


def draw() -> float:
    """A random number, uniform in [0, 1)."""
    return secrets.randbelow(1 << 30) / (1 << 30)


@dataclass(slots=True, eq=False)
class Stream:
    """The stream of one camera; each coding keeps what it needs beside."""

    stream_id: bytes
    sender: Sender

    def moved(self, sender: Sender) -> None:
        """Go on with `sender`, and let go of what it does not need any more."""
        self.sender = sender


S = TypeVar("S", bound=Stream)


class CameraStreams(Generic[S]):
    """One stream a camera. `lock` guards them all, and is held by who calls a method that does not take it.

    None waits.
    `begin` makes a stream of an id. `most_cameras` bounds the memory: of more cameras the one that has been
    silent the longest is let go.
    """

    def __init__(
        self,
        begin: Callable[[bytes], S],
        most_cameras: int,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = draw,
    ) -> None:
        self.lock = threading.Lock()
        self.clock = clock
        self.draw = draw
        self._begin = begin
        self._most_cameras = most_cameras
        self._streams: OrderedDict[str, tuple[S, float]] = OrderedDict()
        """With the time of their last use, by camera; the one that was used last is the last."""

    def all(self) -> list[S]:
        """The streams that are kept, the most silent one first."""
        return [stream for stream, _ in self._streams.values()]

    def by_camera(self) -> list[tuple[str, S]]:
        """The cameras with their streams, the most silent one first. It takes the lock itself."""
        with self.lock:
            return [(camera_id, stream) for camera_id, (stream, _) in self._streams.items()]

    def paused(self) -> dict[str, KeyCause]:
        """The cameras whose streams pause now, and why. It takes the lock itself."""
        senders = {camera_id: stream.sender for camera_id, stream in self.by_camera()}
        now_s = self.clock()
        return {camera_id: sender.due for camera_id, sender in senders.items() if not sender.may_send(now_s)}

    def ended(self, camera_id: str) -> None:
        """Let go of the camera's stream. It takes the lock itself."""
        with self.lock:
            self._streams.pop(camera_id, None)

    def found(self, camera_id: str) -> S | None:
        """The camera's stream, if there is one."""
        self._let_go()
        stream, _ = self._streams.get(camera_id, (None, 0.0))
        return stream

    def used(self, camera_id: str) -> S:
        """The camera's stream, which is begun if there is none, or if the one there is has no number left."""
        stream = self.found(camera_id)
        if stream is not None and stream.sender.newest >= MOST_NUMBER:
            del self._streams[camera_id]
            stream = None
        if stream is None:
            if len(self._streams) >= self._most_cameras:
                self._streams.popitem(last=False)
            stream = self._begin(secrets.token_bytes(STREAM_ID_BYTES))
        self._streams[camera_id] = (stream, self.clock())
        self._streams.move_to_end(camera_id)
        return stream

    def heard(self, payload: Payload, told: Callable[[S, StreamPosition], Sender]) -> None:
        """Go on with what `told` makes of a payload's stream, unless it stands in none that is kept.

        Where a key is lost as well it goes on under another name: who knows the old one may have got ahead of
        it, and then whatever is sent under it has passed. It takes the lock itself.
        """
        position = position_of(payload)
        with self.lock:
            for stream in self.all():
                if position is not None and stream.stream_id == position.stream_id:
                    stream.moved(told(stream, position))
                    if stream.sender.is_lost_again:
                        stream.stream_id = secrets.token_bytes(STREAM_ID_BYTES)

    def refused(self, payload: Payload) -> None:
        """The server begins no stream now, whatever it would hold. It takes the lock itself."""
        now_s, draw = self.clock(), self.draw()
        self.heard(payload, lambda stream, at: stream.sender.refused(at.number, now_s, draw))

    def _let_go(self) -> None:
        now_s = self.clock()
        while self._streams:
            camera_id, (_, used_s) = next(iter(self._streams.items()))
            if now_s - used_s < IDLE_S:
                return
            del self._streams[camera_id]
