"""The busiest callers of the last minutes, in bounded memory, however many names strangers invent."""

import heapq
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

OTHER = "other"
"""What all callers that are not shown are called together."""
SHOWN = 20
_COUNTERS = 128
_SLICE_S, _SLICES = 60.0, 5
WINDOW_S = _SLICE_S * _SLICES


class SpaceSaving:
    """The heaviest keys of a stream, counted by `counters` counters (Metwally, Agrawal, El Abbadi, 2005).

    A key without a counter takes over the lowest one, with what that has counted as its possible error. The
    counts add up to all that was added, none is too low, and a key with more than a share of 1/`counters` of
    all has a counter for certain.
    """

    def __init__(self, counters: int = _COUNTERS) -> None:
        self._counters = counters
        self._counts: dict[str, int] = {}
        self._errors: dict[str, int] = {}
        self._lowest: list[tuple[int, str]] = []
        """A heap with one entry a key, which may say less than the key's count."""

    def add(self, key: str, weight: int) -> None:
        """Count `weight` (0 or more) for `key`. Logarithmic in the number of counters, amortised."""
        counts = self._counts
        if key in counts:
            counts[key] += weight
        elif len(counts) < self._counters:
            self._enter(key, weight, error=0)
        else:
            lowest = self._give_up_lowest()
            self._enter(key, lowest + weight, error=lowest)

    def counts(self) -> dict[str, int]:
        """Each key's count: at least what was added for it."""
        return dict(self._counts)

    def certain(self) -> dict[str, int]:
        """What was added for each key at least; at most as much as `counts` says."""
        counts = dict(self._counts)  # before the errors: these only rise while another thread counts
        errors = dict(self._errors)
        return {key: count - errors.get(key, count) for key, count in counts.items()}

    def _enter(self, key: str, count: int, *, error: int) -> None:
        self._errors[key] = error
        self._counts[key] = count
        heapq.heappush(self._lowest, (count, key))

    def _give_up_lowest(self) -> int:
        count, key = self._lowest[0]
        while count != (now := self._counts[key]):
            heapq.heapreplace(self._lowest, (now, key))
            count, key = self._lowest[0]
        heapq.heappop(self._lowest)
        del self._counts[key], self._errors[key]
        return count


class Busiest:
    """Sums of the last `WINDOW_S` seconds: of the 20 heaviest callers, and of all others together.

    `add` belongs to one thread; `shown` may be called on another. `clock` gives monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._slices: deque[tuple[float, SpaceSaving]] = deque(maxlen=_SLICES)
        self._ends_s = -float("inf")
        self._newest = SpaceSaving()

    def add(self, caller: str, weight: int, now_s: float) -> None:
        """Count `weight` for `caller` at `now_s`, a reading of the clock."""
        if now_s >= self._ends_s:
            self._newest = SpaceSaving()
            self._ends_s = now_s + _SLICE_S
            self._slices.append((self._ends_s, self._newest))
        self._newest.add(caller, weight)

    def shown(self) -> dict[str, int]:
        """The sums, the largest first, `other` last. What a caller has is never overstated."""
        since_s = self._clock() - WINDOW_S
        sums: Counter[str] = Counter()
        total = 0
        for ends_s, sketch in list(self._slices):
            if ends_s > since_s:
                sums.update(sketch.certain())
                total += sum(sketch.counts().values())
        del sums[OTHER]  # a caller of that name is one of the others
        heaviest = {caller: count for caller, count in sums.most_common(SHOWN) if count > 0}
        return heaviest | {OTHER: max(0, total - sum(heaviest.values()))}


class BusiestCallers(Collector):
    """Calls and bytes of the busiest callers, for Prometheus. See `Busiest` for threads and clock."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._calls = Busiest(clock)
        self._bytes = Busiest(clock)

    def add(self, caller: str, size_bytes: int) -> None:
        """Count one call of `caller` that moved `size_bytes` in both directions."""
        now_s = self._clock()
        self._calls.add(caller, 1, now_s)
        self._bytes.add(caller, size_bytes, now_s)

    def collect(self) -> Iterator[Metric]:
        """Yield both families: at most 21 samples each."""
        for name, what, busiest in (
            ("calls", "Calls", self._calls),
            ("bytes", "Bytes of messages, in both directions,", self._bytes),
        ):
            text = f"{what} of the last {WINDOW_S:g} s, of the {SHOWN} busiest callers and of all others."
            family = GaugeMetricFamily(f"spillover_busiest_{name}", text, labels=["caller"])
            for caller, count in busiest.shown().items():
                family.add_metric([caller], count)
            yield family
