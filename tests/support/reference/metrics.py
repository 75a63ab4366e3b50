"""The metrics of both sides, from the registries that hold them."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.registry import Collector

from spillover.cloud.config import CloudConfig
from spillover.cloud.rpc.security import Security
from spillover.cloud.telemetry.metrics import Metrics as CloudMetrics
from spillover.edge.spool.spool import SpoolState
from spillover.edge.telemetry.metrics import Metrics as EdgeMetrics
from tests.support.pki import Pki
from tests.support.reference.markdown import table


def edge_metrics() -> str:
    """A table of what the edge counts."""
    metrics = EdgeMetrics()
    metrics.watch_spool(SpoolState)
    metrics.watch_certificate(float)
    metrics.watch_budget(float, float)
    return _table(metrics.registry)


def cloud_metrics() -> str:
    """A table of what the server counts."""
    metrics = CloudMetrics()
    with TemporaryDirectory() as folder:
        tls = Pki(Path(folder) / "pki").server_tls(mutual=False)
        Security(msgspec.convert({"security": {"tls": tls}}, CloudConfig), metrics)
        return _table(metrics.registry)


def _table(registry: CollectorRegistry) -> str:
    rows = [row for collector in list(registry._collector_to_names) for row in _rows(collector)]
    return table(("name", "type", "labels", "meaning"), sorted(rows))


def _rows(collector: Collector) -> Iterator[tuple[str, str, str, str]]:
    for family in collector.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        in_use = {label: None for sample in family.samples for label in sample.labels}
        labels = getattr(collector, "_labelnames", tuple(in_use))
        shown = ", ".join(f"`{label}`" for label in labels)
        yield f"`{name}`", family.type, shown, f"{family.documentation.rstrip('.')}."
