"""The process: stall detection, forced exit, threads that give way, pipes to children that may hang."""

import os
import select
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from spillover.common.log import end_process

EXIT_LIMIT_S = 3.0
"""What a process may take to end once its parts have stopped or were left behind."""

_LEAST = 19
_NICE = 5
"""How much less than the pipeline a thread of this kind gets where both want the same core."""


class StallDetector:
    """Tells work that takes too long from waiting for work.

    One thread works, another calls `hangs`. `clock` gives monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._busy_since_s: float | None = None

    @contextmanager
    def working(self) -> Iterator[None]:
        """Marks the body as one piece of work."""
        self._busy_since_s = self._clock()
        try:
            yield
        finally:
            self._busy_since_s = None

    def hangs(self, limit_s: float) -> bool:
        """Whether the current piece of work has taken longer than `limit_s` seconds."""
        since_s = self._busy_since_s
        return since_s is not None and self._clock() - since_s > limit_s


def end_process_after(limit_s: float, code: int, why: str) -> None:
    """Begin to count: in `limit_s` seconds the process ends with `code`, unless it has ended by then."""
    timer = threading.Timer(limit_s, end_process, (code, why))
    timer.daemon = True
    timer.start()


def step_back() -> None:
    """Let the pipeline go before this thread, for the rest of its life.

    On Linux a thread has a priority of its own (sched(7)), by its number.
    """
    thread = threading.get_native_id()
    nice = os.getpriority(os.PRIO_PROCESS, thread)
    os.setpriority(os.PRIO_PROCESS, thread, min(_LEAST, nice + _NICE))


def write_within(pipe: int, data: bytes, limit_s: float) -> None:
    """Write to a pipe that does not block (`os.set_blocking`); `limit_s` is for all of `data`.

    Raises:
        TimeoutError: whoever reads it does not.
        OSError: nobody reads it any more.
    """
    left = memoryview(data)
    waiting = select.poll()
    waiting.register(pipe, select.POLLOUT)
    until_s = time.monotonic() + limit_s
    while left:
        if not waiting.poll(max(0.0, until_s - time.monotonic()) * 1000):
            raise TimeoutError(f"it has read nothing for {limit_s:g} s")
        with suppress(BlockingIOError):
            left = left[os.write(pipe, left) :]
