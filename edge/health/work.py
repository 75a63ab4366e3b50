"""Counts inferences, and how long those of the last minute took."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable

from spillover.edge.health.readings import Work

WINDOW_S = 60.0
_MOST = 4096
"""Inferences that are kept; at more than 68 a second they cover less than the window."""


class WorkMeter:
    """Call `mark` after each inference. Thread-safe. `clock` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began_s = clock()
        self._lock = threading.Lock()
        self._count = 0
        self._recent: deque[tuple[float, float]] = deque(maxlen=_MOST)

    def mark(self, duration_s: float) -> None:
        """One has ended."""
        with self._lock:
            self._count += 1
            self._recent.append((self._clock(), duration_s))

    def __call__(self) -> Work:
        """What was done."""
        now_s = self._clock()
        with self._lock:
            count, recent = self._count, [one for one in self._recent if one[0] > now_s - WINDOW_S]
        window_s = min(WINDOW_S, now_s - self._began_s)
        if len(recent) == _MOST:
            window_s = now_s - recent[0][0]
        took = sorted(duration_s for _, duration_s in recent)
        return Work(
            inferences=count,
            per_s=len(took) / window_s if window_s > 0 else 0.0,
            mean_s=sum(took) / len(took) if took else None,
            p99_s=took[math.ceil(0.99 * len(took)) - 1] if took else None,
        )
