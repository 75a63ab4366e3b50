"""Limits of the calls to the cloud: the circuit breaker, the in-flight cap, the retry budget."""

import math
import threading
from dataclasses import dataclass, replace

from spillover.edge.link.state import BreakerPhase


@dataclass(frozen=True, slots=True)
class BreakerRule:
    """When the breaker opens and how long it pauses."""

    failure_limit: int = 5
    pause_min_s: float = 0.5
    pause_max_s: float = 4.0


@dataclass(frozen=True, slots=True)
class Breaker:
    """The circuit breaker at one moment: after many consecutive failures calls pause, then single probes run.

        CLOSED --limit failures in a row--> OPEN --pause over, one call starts--> HALF_OPEN
        HALF_OPEN --probe succeeds--> CLOSED        HALF_OPEN --probe fails--> OPEN, with twice the pause

    A value with pure transitions (M. Nygard, "Release It!", 2007): the time in seconds and the random draw
    for the jitter are arguments. The pause is at most a few seconds, because no frame is sent until it ends.
    """

    rule: BreakerRule = BreakerRule()
    phase: BreakerPhase = BreakerPhase.CLOSED
    failures: int = 0
    """Consecutive failures while closed."""
    pause_s: float = 0.0
    retry_at_s: float = 0.0

    def allows(self, now_s: float) -> bool:
        """Whether a call may start now; while open, the first one after the pause is the probe."""
        match self.phase:
            case BreakerPhase.CLOSED:
                return True
            case BreakerPhase.OPEN:
                return now_s >= self.retry_at_s
            case BreakerPhase.HALF_OPEN:
                return False

    def started(self, now_s: float) -> "Breaker":
        """The breaker after a call has started; the call is the probe if this turns OPEN into HALF_OPEN."""
        if self.phase is BreakerPhase.OPEN and self.allows(now_s):
            return replace(self, phase=BreakerPhase.HALF_OPEN)
        return self

    def succeeded(self) -> "Breaker":
        """The breaker after any call was answered in time: closed."""
        return Breaker(self.rule)

    def failed(self, now_s: float, draw: float, *, probe: bool) -> "Breaker":
        """The breaker after a call failed or missed its deadline.

        `draw`, uniform in [0, 1), spreads the probes of many edges over time.
        """
        if self.phase is BreakerPhase.CLOSED:
            if self.failures + 1 < self.rule.failure_limit:
                return replace(self, failures=self.failures + 1)
            return self._opened(now_s, draw, self.rule.pause_min_s)
        if self.phase is BreakerPhase.HALF_OPEN and probe:
            return self._opened(now_s, draw, min(2 * self.pause_s, self.rule.pause_max_s))
        return self  # a late failure of a call from before it opened

    def undecided(self, now_s: float, draw: float, *, probe: bool) -> "Breaker":
        """A call ended without evidence about the link; a probe is repeated after an equal pause."""
        if self.phase is BreakerPhase.HALF_OPEN and probe:
            return self._opened(now_s, draw, self.pause_s)
        return self

    def _opened(self, now_s: float, draw: float, pause_s: float) -> "Breaker":
        retry_at_s = now_s + pause_s * (0.5 + 0.5 * draw)
        return Breaker(self.rule, BreakerPhase.OPEN, 0, pause_s, retry_at_s)


class InFlightLimit:
    """How many calls may be in flight: fewer when latency rises above its long-term mean, else slowly more.

    The gradient limit of Netflix's concurrency-limits: towards limit * clamp(1.5 long / short, 0.5, 1) +
    sqrt(limit), a fifth of the way per call.
    """

    def __init__(self, initial: float = 4.0, maximum: float = 64.0) -> None:
        self._limit = initial
        self._maximum = maximum
        self._long_s: float | None = None
        self.usual_s = 0.0
        """Moving mean of the answers' latency in seconds; 0 before the first one."""

    @property
    def limit(self) -> int:
        """Maximum number of calls in flight; at least 1."""
        return max(1, int(self._limit))

    def answered(self, latency_s: float) -> int:
        """Update with one call's latency; returns the new limit."""
        self.usual_s = 0.8 * self.usual_s + 0.2 * latency_s if self.usual_s else latency_s
        long_s = latency_s if self._long_s is None else self._long_s + (latency_s - self._long_s) / 100
        # After a recovery the long-term mean must not stay far above the current latency.
        self._long_s = min(long_s, 2 * latency_s)
        gradient = min(1.0, max(0.5, 1.5 * self._long_s / max(latency_s, 1e-6)))
        wanted = self._limit * gradient + math.sqrt(self._limit)
        self._limit = min(self._maximum, max(1.0, self._limit + 0.2 * (wanted - self._limit)))
        return self.limit


class RetryBudget:
    """Whether a failed call may be repeated once: at any moment retries <= `share` x calls. Thread-safe.

    So a failing server gets at most 1.2 times the traffic (the "retry budget" of Finagle, and of gRPC's retry
    throttling, proposal A6).
    """

    def __init__(self, share: float = 0.2) -> None:
        self._share = share
        self._lock = threading.Lock()
        self._calls = 0
        self._retries = 0

    def count_call(self) -> None:
        """Count a call that is a first try."""
        with self._lock:
            self._calls += 1

    def take(self, time_left_s: float, expected_s: float) -> bool:
        """Spend one retry if one is left and its answer, expected in `expected_s`, can still be in time."""
        with self._lock:
            if time_left_s <= expected_s or self._retries + 1 > self._share * self._calls:
                return False
            self._retries += 1
            return True
