"""The spool's counters as Prometheus metrics, all of one moment: they add up whenever they are read."""

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from spillover.edge.spool.arena import Fate
from spillover.edge.spool.spool import SpoolState

_PREFIX = "spillover_edge_spool_"


class SpoolCollector(Collector):
    """Reads `state` once a scrape.

    `recovered` plus the fate `accepted` is the sum of the other fates plus `pending`.
    """

    def __init__(self, state: Callable[[], SpoolState]) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        """The metrics of this moment."""
        state = self._state()
        fates = CounterMetricFamily(
            f"{_PREFIX}frames", "Frames accepted by the disk, and how they ended.", labels=["fate"]
        )
        for fate in Fate:
            fates.add_metric([fate.value], getattr(state, fate.value))
        yield fates
        yield CounterMetricFamily(f"{_PREFIX}syncs", "Commits to the disk.", value=state.syncs)
        yield GaugeMetricFamily(
            f"{_PREFIX}recovered", "Frames found on the disk at the start.", value=state.recovered
        )
        yield GaugeMetricFamily(f"{_PREFIX}pending", "Frames on the disk.", value=state.pending)
        yield GaugeMetricFamily(f"{_PREFIX}bytes", "Bytes of the file in use.", value=state.pending_bytes)
        yield GaugeMetricFamily(
            f"{_PREFIX}oldest_age_seconds", "Age of the oldest frame on the disk.", value=state.oldest_age_s
        )
        failing = float(bool(state.error))
        yield GaugeMetricFamily(f"{_PREFIX}failing", "1 while the disk cannot be used.", value=failing)
