"""A budget of bytes that is never overspent, and a rule that spends it on the frames that gain most per byte.

Time is handed in, in seconds of any clock that never goes back.
"""

from bisect import bisect_left, bisect_right, insort
from collections import deque
from dataclasses import dataclass

WINDOW = 500
"""Frames that a frame is ranked among."""


@dataclass(frozen=True, slots=True)
class Budget:
    """At most `bytes_per_period` in any `period_s` seconds, at most `bucket_bytes` of it at once.

    Raises:
        ValueError: a number is not positive, or the bucket holds more than half of the budget.
    """

    bytes_per_period: float
    period_s: float
    bucket_bytes: float

    def __post_init__(self) -> None:
        if min(self.bytes_per_period, self.period_s, self.bucket_bytes) <= 0:
            raise ValueError("budget, period and bucket must be greater than 0")
        if self.bucket_bytes > self.bytes_per_period / 2:
            raise ValueError("the bucket must not hold more than half of the period's budget")

    @property
    def refill_bytes_per_s(self) -> float:
        """A full bucket and a period of this are together the budget, so that no window exceeds it."""
        return (self.bytes_per_period - self.bucket_bytes) / self.period_s


class TokenBucket:
    """Bytes that may be sent now. Begins empty, so that a restart never earns a second bucket."""

    def __init__(self, budget: Budget, now_s: float) -> None:
        self._budget = budget
        self._tokens = 0.0
        self._at_s = now_s

    def available(self, now_s: float) -> float:
        """Bytes that may be sent at `now_s`."""
        elapsed_s = max(0.0, now_s - self._at_s)
        self._at_s = max(now_s, self._at_s)
        self._tokens = min(
            self._budget.bucket_bytes, self._tokens + elapsed_s * self._budget.refill_bytes_per_s
        )
        return self._tokens

    def take(self, payload_bytes: float, now_s: float) -> bool:
        """Spend the bytes if they are there; all or nothing."""
        if payload_bytes > self.available(now_s):
            return False
        self._tokens -= payload_bytes
        return True


class Rank:
    """Where a value stands among the last ones: 1 is above all of them, 0 below."""

    def __init__(self, window: int = WINDOW) -> None:
        self._window = window
        self._order: deque[float] = deque()
        self._sorted: list[float] = []

    def of(self, value: float) -> float:
        """Share of the window below `value`, ties by half; 1 in an empty window."""
        if not self._sorted:
            return 1.0
        low, high = bisect_left(self._sorted, value), bisect_right(self._sorted, value)
        return (low + high) / 2 / len(self._sorted)

    def add(self, value: float) -> None:
        """Take the value into the window."""
        if len(self._order) == self._window:
            del self._sorted[bisect_left(self._sorted, self._order.popleft())]
        self._order.append(value)
        insort(self._sorted, value)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the budget allows a frame, and the numbers that decided it."""

    send: bool
    rank: float
    needed_rank: float
    tokens: float


class BudgetRule:
    """Send iff u >= 1 - 2 r n / b and the frame fits: u its rank by gain per byte, n tokens of a bucket b.

    r is the share of the offered bytes that the budget pays for. A half-full bucket sends exactly the best r;
    a full one twice as many, an empty one none. Only the order of scores matters, so a drift of their scale
    changes nothing.
    """

    def __init__(self, budget: Budget, now_s: float) -> None:
        self._budget = budget
        self._bucket = TokenBucket(budget, now_s)
        self._rank = Rank()
        self._offered: deque[tuple[float, float]] = deque()
        self._offered_bytes = 0.0

    def offer(self, gain: float, payload_bytes: float, now_s: float) -> Verdict:
        """Judge one frame; called for every frame, for those that are kept as well. Spends nothing."""
        value = gain / max(payload_bytes, 1.0)
        rank = self._rank.of(value)
        self._rank.add(value)
        self._note(now_s, payload_bytes)
        tokens = self._bucket.available(now_s)
        needed = 1 - 2 * self._share() * tokens / self._budget.bucket_bytes
        send = gain > 0 and rank >= needed and tokens >= payload_bytes
        return Verdict(send, rank, needed, tokens)

    def spend(self, payload_bytes: float, now_s: float) -> bool:
        """Pay for what is about to leave, at its true size; False where the tokens do not cover it."""
        return self._bucket.take(payload_bytes, now_s)

    def _note(self, now_s: float, payload_bytes: float) -> None:
        self._offered.append((now_s, payload_bytes))
        self._offered_bytes += payload_bytes
        if len(self._offered) > WINDOW:
            self._offered_bytes -= self._offered.popleft()[1]

    def _share(self) -> float:
        """Refill over the rate at which bytes have been offered; 1 until there is a rate."""
        elapsed_s = self._offered[-1][0] - self._offered[0][0]
        offered = self._offered_bytes - self._offered[0][1]
        if elapsed_s <= 0 or offered <= 0:
            return 1.0
        return min(1.0, self._budget.refill_bytes_per_s * elapsed_s / offered)
