"""Admission control: bounded queue, fair share and rate per caller, early refusal of calls without time.

All of it is decided before the request has cost anything but the reading of its bytes. Everything here runs
on the event loop, so there are no locks.
"""

import math
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from spillover.cloud.config import BatchingConfig, LimitsConfig
from spillover.common.errors import Cause, DeadlineExpiredError, OverloadedError

_SMOOTHING = 0.1
_MIN_RETRY_S, _MAX_RETRY_S = 0.01, 5.0
_MAX_HOLDERS = 10_000


class Call(msgspec.Struct, frozen=True):
    """What admission and batching need of a call, whatever its transport.

    `holder` is who is charged for it, in shares, rates and memory: the caller's proven identity, else its
    connection. `device` is the proven identity, else what the caller says of itself; nothing is charged to
    that, because names can be invented. `expires_s` is the end of the call in `time.monotonic()` seconds,
    infinite without a deadline. `is_large`: its request is too large to be converted on the event loop.
    `is_proven`: who calls has proven it.
    """

    holder: str = ""
    device: str = ""
    expires_s: float = math.inf
    is_large: bool = False
    is_proven: bool = False


class Admission:
    """Admits requests to one model."""

    def __init__(self, config: BatchingConfig) -> None:
        self._max_pending = config.max_pending
        self._instances = config.instances
        self._pending: Counter[str] = Counter()
        self._total = 0
        self._row_s = 0.0

    @property
    def load(self) -> float:
        """Requests inside as a share of the bound: 0 idle, 1 full."""
        return self._total / self._max_pending

    @property
    def expected_wait_s(self) -> float:
        """How long what is inside will take, by the measured time a row."""
        return self._total * self._row_s / self._instances

    def measured(self, rows: int, infer_s: float) -> None:
        """Learn from a batch: `rows` took `infer_s` seconds (exponential moving average)."""
        row_s = infer_s / rows
        self._row_s += _SMOOTHING * (row_s - self._row_s) if self._row_s else row_s

    @contextmanager
    def place(self, holder: str, expires_s: float) -> Iterator[None]:
        """Hold a place while a request of `holder`, whose call ends at `expires_s`, is inside.

        Raises:
            OverloadedError: full, more than the holder's share, or too long a queue for this deadline.
            DeadlineExpiredError: the call has ended already.
        """
        self._check_deadline(expires_s - time.monotonic())
        self._check_room(holder)
        self._pending[holder] += 1
        self._total += 1
        try:
            yield
        finally:
            self._total -= 1
            self._pending[holder] -= 1
            if not self._pending[holder]:
                del self._pending[holder]

    def _check_deadline(self, left_s: float) -> None:
        if left_s <= 0:
            raise DeadlineExpiredError("the call's deadline has passed")
        # An empty server always tries, so that one slow run cannot make it refuse for ever.
        needed_s = self.expected_wait_s + self._row_s
        if self._total and left_s < needed_s:
            raise OverloadedError(
                f"the queue needs {needed_s * 1e3:.0f} ms, the call has {left_s * 1e3:.0f} ms left",
                _retry_s(needed_s - left_s),
                Cause.DEADLINE,
            )

    def _check_room(self, holder: str) -> None:
        if self._total >= self._max_pending:
            raise OverloadedError(
                f"full: {self._total} requests are waiting or running",
                _retry_s(self.expected_wait_s / 2),
                Cause.QUEUE_FULL,
            )
        others = len(self._pending) - (holder in self._pending)
        share = max(1, self._max_pending // (others + 1))
        if self._pending[holder] >= share:
            raise OverloadedError(
                f"{holder!r} has {share} requests inside, its share among {others + 1} callers",
                _retry_s(self.expected_wait_s / 2),
                Cause.SHARE,
            )


class RateLimiter:
    """A token bucket for each holder: a rate on average, `burst` at once. A rate of 0 limits nothing."""

    def __init__(self, limits: LimitsConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self.follow(limits)
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def follow(self, limits: LimitsConfig) -> None:
        """Use these limits from now on; what each holder has spent is remembered."""
        self._rate = limits.device_rate_per_s
        self._burst = float(limits.device_burst)

    def spend(self, holder: str) -> None:
        """Take one token of `holder`. Raises OverloadedError when it has none."""
        if not self._rate:
            return
        now_s = self._clock()
        tokens, then_s = self._buckets.pop(holder, (self._burst, now_s))
        tokens = min(self._burst, tokens + (now_s - then_s) * self._rate)
        allowed = tokens >= 1
        self._buckets[holder] = (tokens - allowed, now_s)
        if len(self._buckets) > _MAX_HOLDERS:  # forget who has been silent longest
            self._buckets.popitem(last=False)
        if not allowed:
            raise OverloadedError(
                f"{holder!r} sends more than {self._rate:g} requests a second",
                (1 - tokens) / self._rate,
                Cause.RATE,
            )


def _retry_s(seconds: float) -> float:
    return min(max(seconds, _MIN_RETRY_S), _MAX_RETRY_S)
