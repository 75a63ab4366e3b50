"""Takes the frames of several cameras in fair turns: none waits for another that gives more."""

import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from spillover.common.types import Frame

_LOOK_UP_S = 1.0
"""No wait is longer; what it waits for is then looked at again."""


class Frames(Protocol):
    """What gives frames; `edge.camera.camera.Camera` is one."""

    @property
    def has_ended(self) -> bool:
        """Whether no further frame will come."""
        ...

    def poll(self) -> Frame | None:
        """Take the next frame, if there is one now."""
        ...

    def call_on_frame(self, ready: Callable[[], None]) -> None:
        """Call `ready` after every frame that comes, and at the end."""
        ...


def _nobody(_number: int) -> None:
    """Nobody is told."""


class FairTurns:
    """Round robin over the cameras that have a frame. One thread calls `next`.

    A camera that has just had its turn comes last, so with n cameras a frame waits for at most n - 1 others.
    `on_end` is called once with the number of each camera that has ended, after its last frame was processed.
    """

    def __init__(self, cameras: Sequence[Frames], on_end: Callable[[int], None] = _nobody) -> None:
        self._cameras = cameras
        self._on_end = on_end
        self._ended: set[int] = set()
        self._first = 0
        self._came = threading.Event()
        for camera in cameras:
            camera.call_on_frame(self._came.set)

    def next(self) -> tuple[int, Frame] | None:
        """Wait for a frame, and return it with its camera's number; None once every camera has ended."""
        count = len(self._cameras)
        while True:
            self._came.clear()  # before the look, so that a frame that comes after it ends the wait
            for index in ((self._first + turn) % count for turn in range(count)):
                if (frame := self._cameras[index].poll()) is not None:
                    self._first = (index + 1) % count
                    return index, frame
                if self._cameras[index].has_ended and index not in self._ended:
                    self._ended.add(index)
                    self._on_end(index)
            if len(self._ended) == count:
                return None
            self._came.wait(_LOOK_UP_S)
