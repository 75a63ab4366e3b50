"""The circuit breaker: after many failures in a row calls pause, and single probes find the way open.

    CLOSED --limit failures in a row--> OPEN --pause over, one call departs--> HALF_OPEN
    HALF_OPEN --probe succeeds--> CLOSED        HALF_OPEN --probe fails--> OPEN, with twice the pause

A value with pure transitions (M. Nygard, "Release It!", 2007): the clock's seconds and the jitter's draw
are handed in. The pause is bounded by a few seconds, because every frame that could have been sent
meanwhile waits for its end.
"""

from dataclasses import dataclass, replace

from spillover.edge.link.state import BreakerPhase


@dataclass(frozen=True, slots=True)
class BreakerRule:
    """When to open and how long to pause."""

    failure_limit: int = 5
    pause_min_s: float = 0.5
    pause_max_s: float = 4.0


@dataclass(frozen=True, slots=True)
class Breaker:
    """The breaker at one moment."""

    rule: BreakerRule = BreakerRule()
    phase: BreakerPhase = BreakerPhase.CLOSED
    failures: int = 0
    """In a row, while closed."""
    pause_s: float = 0.0
    retry_at_s: float = 0.0

    def allows(self, now_s: float) -> bool:
        """Whether a call may depart now; while open, the first one after the pause is the probe."""
        match self.phase:
            case BreakerPhase.CLOSED:
                return True
            case BreakerPhase.OPEN:
                return now_s >= self.retry_at_s
            case BreakerPhase.HALF_OPEN:
                return False

    def departed(self, now_s: float) -> "Breaker":
        """A call has departed; it is the probe if the result is HALF_OPEN and this was not."""
        if self.phase is BreakerPhase.OPEN and self.allows(now_s):
            return replace(self, phase=BreakerPhase.HALF_OPEN)
        return self

    def succeeded(self) -> "Breaker":
        """A call was answered in time, whichever it was: the way is open."""
        return Breaker(self.rule)

    def failed(self, now_s: float, draw: float, *, probe: bool) -> "Breaker":
        """A call failed or missed its deadline; `draw`, uniform in [0, 1), spreads many edges' probes."""
        if self.phase is BreakerPhase.CLOSED:
            if self.failures + 1 < self.rule.failure_limit:
                return replace(self, failures=self.failures + 1)
            return self._opened(now_s, draw, self.rule.pause_min_s)
        if self.phase is BreakerPhase.HALF_OPEN and probe:
            return self._opened(now_s, draw, min(2 * self.pause_s, self.rule.pause_max_s))
        return self  # a straggler from before it opened tells nothing new

    def undecided(self, now_s: float, draw: float, *, probe: bool) -> "Breaker":
        """A call ended and says nothing of the link: a probe must be repeated, after the same pause."""
        if self.phase is BreakerPhase.HALF_OPEN and probe:
            return self._opened(now_s, draw, self.pause_s)
        return self

    def _opened(self, now_s: float, draw: float, pause_s: float) -> "Breaker":
        retry_at_s = now_s + pause_s * (0.5 + 0.5 * draw)
        return Breaker(self.rule, BreakerPhase.OPEN, 0, pause_s, retry_at_s)
