"""How many calls may be under way at once."""

import math


class InFlightLimit:
    """How many frames may be under way: shrinks when latency grows over its long-term mean, else creeps up.

    The gradient limit of Netflix's concurrency-limits: towards limit * clamp(1.5 long / short, 0.5, 1) +
    sqrt(limit), a fifth of the way each call.
    """

    def __init__(self, initial: float = 4.0, maximum: float = 64.0) -> None:
        self._limit = initial
        self._maximum = maximum
        self._long_s: float | None = None

    @property
    def limit(self) -> int:
        """Frames under way at most; at least 1."""
        return max(1, int(self._limit))

    def answered(self, latency_s: float) -> int:
        """Take one call's latency into account and return the new limit."""
        long_s = latency_s if self._long_s is None else self._long_s + (latency_s - self._long_s) / 100
        # After a recovery the long mean must not stay far above what is real now.
        self._long_s = min(long_s, 2 * latency_s)
        gradient = min(1.0, max(0.5, 1.5 * self._long_s / max(latency_s, 1e-6)))
        wanted = self._limit * gradient + math.sqrt(self._limit)
        self._limit = min(self._maximum, max(1.0, self._limit + 0.2 * (wanted - self._limit)))
        return self.limit
