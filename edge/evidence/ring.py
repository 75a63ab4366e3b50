"""The last seconds of one camera as encoded pictures, within a bound of bytes."""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from spillover.edge.pipeline import CameraSettings


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One encoded picture."""

    number: int
    at_s: float
    """When it was captured (monotonic)."""
    settings: CameraSettings
    """What hid in it what is to be hidden."""
    jpeg: bytes


@dataclass(slots=True, eq=False)
class Reader:
    """Who reads along: pictures from `from_s` on stay until it has taken them, as far as there is room."""

    from_s: float
    taken: int = 0
    """The number of the last one."""


class Ring:
    """Thread-safe. `on_lost` is called for each picture that goes although it is younger than `keep_s`."""

    def __init__(self, keep_s: float, max_bytes: int, on_lost: Callable[[], None]) -> None:
        self._keep_s = keep_s
        self._max_bytes = max_bytes
        self._on_lost = on_lost
        self._changed = threading.Condition()
        self._pictures: deque[Picture] = deque()
        self._readers: list[Reader] = []
        self._bytes = 0
        self._count = 0
        self._closed = False

    @property
    def total_bytes(self) -> int:
        """What the pictures take."""
        return self._bytes

    @property
    def is_closed(self) -> bool:
        """Whether nothing more comes."""
        return self._closed

    def add(self, at_s: float, settings: CameraSettings, jpeg: bytes) -> None:
        """The next picture; those of other settings go, and old ones that nobody reads."""
        lost = 0
        with self._changed:
            if self._pictures and self._pictures[-1].settings is not settings:
                self._pictures.clear()
                self._bytes = 0
            self._count += 1
            self._pictures.append(Picture(self._count, at_s, settings, jpeg))
            self._bytes += len(jpeg)
            needed_s = min([at_s - self._keep_s, *(one.from_s for one in self._readers)])
            while self._pictures and (self._bytes > self._max_bytes or self._pictures[0].at_s < needed_s):
                gone = self._pictures.popleft()
                self._bytes -= len(gone.jpeg)
                lost += gone.at_s >= needed_s
            self._changed.notify_all()
        for _ in range(lost):
            self._on_lost()

    def read(self, reader: Reader, timeout_s: float) -> Picture | None:
        """The next picture for a reader, as soon as there is one; None after `timeout_s`, or at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._next(reader) is not None or self._closed, timeout_s)
            if (found := self._next(reader)) is not None:
                reader.taken, reader.from_s = found.number, found.at_s
            return found

    def join(self, reader: Reader) -> None:
        """Keep pictures for a reader, until `leave`."""
        with self._changed:
            self._readers.append(reader)

    def leave(self, reader: Reader) -> None:
        """Keep none for it any more."""
        with self._changed:
            self._readers.remove(reader)

    def close(self) -> None:
        """Nothing more comes: nobody waits any longer."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _next(self, reader: Reader) -> Picture | None:
        return next(
            (one for one in self._pictures if one.number > reader.taken and one.at_s >= reader.from_s), None
        )
