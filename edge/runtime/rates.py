"""How often something happens, from the times at which it last did, and when it is due next."""

import threading
import time
from collections import deque
from collections.abc import Callable

WINDOW_S = 10.0
"""Older times do not count."""
_MOST = 512
"""Times that are kept; at more than 51 a second they cover less than the window."""


def next_due_s(due_s: float, now_s: float, period_s: float) -> float:
    """When something is due again that was due at `due_s` and happens now.

    Counted from when it was due, so that of 12 frames a second 10 are taken and not 6; from now on where that
    is past already.
    """
    next_s = due_s + period_s
    return next_s if next_s > now_s else now_s + period_s


class Rate:
    """Call `mark` each time. Thread-safe. `clock` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._times: deque[float] = deque(maxlen=_MOST)

    def mark(self) -> None:
        """It happens now."""
        now_s = self._clock()
        with self._lock:
            self._times.append(now_s)

    def per_s(self) -> float | None:
        """How often a second in the last 10 s; None until it has happened twice.

        What is seldom counts by its last two times. A silence counts as soon as it is longer than two of the
        intervals before.
        """
        now_s = self._clock()
        with self._lock:
            times = list(self._times)
        if len(times) < 2:
            return None
        recent = [at_s for at_s in times if at_s > now_s - WINDOW_S]
        if len(recent) < 2:
            recent = times[-2:]
        intervals, span_s = len(recent) - 1, recent[-1] - recent[0]
        silence_s = now_s - recent[-1]
        if silence_s * intervals > 2 * span_s:
            span_s += silence_s
        return intervals / span_s if span_s > 0 else None
