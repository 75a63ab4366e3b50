"""Histograms that the event loop fills: plain numbers, without the locks of prometheus_client.

Those cost three times as much.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector


class Observations:
    """What was seen under one set of label values: how many values in each bucket, and their sum."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count `value`. Call it on the event loop."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value


class LoopHistogram(Collector):
    """One histogram for Prometheus; `bounds` are the upper ends of its buckets, both in the metric's unit."""

    def __init__(
        self,
        name: str,
        text: str,
        labels: Sequence[str],
        bounds: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        self._name, self._text, self._labels, self._bounds = name, text, labels, bounds
        self._ends = (*(str(float(bound)) for bound in bounds), "+Inf")
        self._children: dict[tuple[str, ...], Observations] = {}
        registry.register(self)

    def labels(self, *values: str) -> Observations:
        """What is seen under these values."""
        if (found := self._children.get(values)) is None:
            found = self._children[values] = Observations(self._bounds)
        return found

    def collect(self) -> Iterator[Metric]:
        """Yield the metric of this moment, on any thread."""
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        for values, seen in list(self._children.items()):
            counts = accumulate(list(seen.counts))
            family.add_metric(values, list(zip(self._ends, counts, strict=True)), seen.total)
        yield family
