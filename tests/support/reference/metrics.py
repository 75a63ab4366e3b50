"""The metrics of both sides, from the registries that hold them."""

import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from spillover.cloud.security.audit import Refusals
from spillover.cloud.telemetry.access import AccessLog
from spillover.cloud.telemetry.calls import STREAMING, Calls
from spillover.cloud.telemetry.metrics import Metrics as CloudMetrics
from spillover.cloud.telemetry.traces import Traces
from spillover.common.metrics import process_registry
from spillover.common.traces import Collector as SpanCollector
from spillover.edge.health.readings import DiskSpace, Readings, Throttling
from spillover.edge.spool.values import SpoolState
from spillover.edge.telemetry.metrics import Metrics as EdgeMetrics
from spillover.edge.tracking.stage import TrackingCounts
from tests.support.reference.markdown import table

_LIMIT_S = 10.0
HEALTHY = Readings(
    temperature_celsius=50.0,
    throttling=Throttling(),
    cpu_share=0.5,
    process_cpu_share=0.1,
    load=1.0,
    process_anon_bytes=1,
    process_file_bytes=1,
    memory_available_bytes=1,
    memory_size_bytes=1,
    memory_limit_bytes=1,
    memory_limit_used_bytes=1,
    oom_kills=0,
    cpu_pressure=0.0,
    memory_pressure=0.0,
    io_pressure=0.0,
    fan_rpm=0,
    supply_volts=5.0,
    under_voltage=False,
    power_estimate_watts=3.0,
    energy_estimate_joules=3.0,
    disk_written_bytes={"mmcblk0": 1},
    disks=(DiskSpace(folder="/var/lib/spillover", free_bytes=1, size_bytes=1),),
)
"""A machine that tells everything."""
_PREFIX = "spillover_"


def edge_metrics() -> str:
    """A table of what the edge counts."""
    return _table(edge_registry())


def edge_registry() -> CollectorRegistry:
    """What an edge with everything registers."""
    metrics = EdgeMetrics()
    metrics.watch_spool(SpoolState)
    metrics.watch_certificate(float)
    metrics.watch_budget(float, float)
    metrics.watch_health(lambda: HEALTHY, int)
    metrics.watch_live_view(int, int)
    metrics.watch_tracking(lambda: [TrackingCounts(shown=1, cuts=0, dropped={"answer_too_old": 1})])
    metrics.watch_scenes(lambda: [("camera", 2.0, 1)])
    return metrics.registry


def cloud_metrics() -> str:
    """A table of what the server counts."""
    return _table(cloud_registry())


def cloud_registry() -> CollectorRegistry:
    """What a server with everything registers."""
    metrics = CloudMetrics()
    Calls(metrics.registry, Refusals(lambda *_: None))
    AccessLog(metrics.registry).stop(time.monotonic() + _LIMIT_S)
    Traces(metrics.registry, SpanCollector("http://127.0.0.1:1", "", "", "")).stop(
        time.monotonic() + _LIMIT_S
    )
    metrics.watch_readiness(bool)
    metrics.watch_connections(lambda: dict.fromkeys(("stranger", "known", "proven"), 0.0))
    metrics.watch_streams(lambda: dict.fromkeys(STREAMING, 0.0))
    metrics.watch_memory(lambda: dict.fromkeys(("calls", "receiving", "working", "sending"), 0.0), 0)
    metrics.of_streams().watch(lambda: dict.fromkeys(("busy", "idle"), 0.0), float, 0)
    metrics.watch_certificate(float)
    return metrics.registry


def process_metrics() -> str:
    """A table of what each side says of its process."""
    return _table(process_registry(_PREFIX), ours=False)


def _table(registry: CollectorRegistry, *, ours: bool = True) -> str:
    """The metrics that this project defines, or those that it gives beside them."""
    rows = [row for collector in list(registry._collector_to_names) for row in _rows(collector)]
    kept = [row for row in rows if row[0].startswith(f"`{_PREFIX}") is ours]
    return table(("name", "type", "labels", "meaning"), sorted(kept))


def labels_of(collector: Collector, family: Metric) -> tuple[str, ...]:
    """The labels of a metric, also of one that has no series yet."""
    declared = getattr(collector, "_labelnames", ()) or getattr(family, "_labelnames", ())
    in_use = {label: None for sample in family.samples for label in sample.labels if label != "le"}
    return tuple(declared or in_use)


def _rows(collector: Collector) -> Iterator[tuple[str, str, str, str]]:
    for family in collector.collect():
        name = family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")
        shown = ", ".join(f"`{label}`" for label in labels_of(collector, family))
        yield f"`{name}`", family.type.replace("info", "gauge"), shown, f"{family.documentation.rstrip('.')}."
