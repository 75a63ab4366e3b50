"""The newest frames as small grey pictures, for boxes that come late; bounded in bytes."""

from collections import deque

from spillover.edge.tracking.flow import SmallFrame

SPACING_S = 0.1
"""Frames between sent ones are kept at this distance: flow bridges it."""


class Ring:
    """Small grey pictures by time of capture. Not thread-safe."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._kept: deque[SmallFrame] = deque()
        self._bytes = 0

    @property
    def size_bytes(self) -> int:
        """Bytes of the pictures that are kept."""
        return self._bytes

    def add(self, frame: SmallFrame, *, sent: bool) -> None:
        """Keep a frame if it was sent, or none was kept shortly before it; the oldest ones make room."""
        if self._kept and not sent and frame.captured_s - self._kept[-1].captured_s < SPACING_S:
            return
        self._kept.append(frame)
        self._bytes += frame.grey.nbytes
        while self._kept and self._bytes > self._most_bytes:
            self._bytes -= self._kept.popleft().grey.nbytes

    def resize(self, most_bytes: int) -> None:
        """Keep at most so many bytes from now on."""
        self._most_bytes = most_bytes

    def clear(self) -> None:
        """Forget all: they show another scene."""
        self._kept.clear()
        self._bytes = 0

    def path(self, captured_s: float, most: int) -> list[SmallFrame]:
        """At most `most` frames from the one captured then to the newest; empty if that one is not kept."""
        after = [frame for frame in self._kept if frame.captured_s >= captured_s]
        if not after or after[0].captured_s != captured_s:
            return []
        if len(after) <= most:
            return after
        return [after[round(at * len(after) / most)] for at in range(most)]
