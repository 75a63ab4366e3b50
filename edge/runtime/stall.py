"""Whether the work goes on: a stage that begins a frame and does not end it within a limit hangs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class StallDetector:
    """One stage's sign of life. Set by the stage's thread, looked at by the supervisor's."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._busy_since_s: float | None = None

    @contextmanager
    def working(self) -> Iterator[None]:
        """One piece of work."""
        self._busy_since_s = self._clock()
        try:
            yield
        finally:
            self._busy_since_s = None

    def hangs(self, limit_s: float) -> bool:
        """Whether the work under way has taken longer than `limit_s`. Waiting for work is no work."""
        since_s = self._busy_since_s
        return since_s is not None and self._clock() - since_s > limit_s
