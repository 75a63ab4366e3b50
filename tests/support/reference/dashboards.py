"""The dashboards of deploy/grafana, made from the registries: no panel names a metric that is not there.

The form is Grafana's dashboard JSON (https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/
view-dashboard-json-model/), of a schema that Grafana 10 and newer read.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from tests.support.reference.metrics import cloud_registry, edge_registry, labels_of

_CHOSEN = 'job=~"$job",instance=~"$instance"'
_COLUMNS, _HEIGHT = 3, 8
_GRID = 24
_UNITS = {"seconds": "s", "bytes": "bytes", "ratio": "percentunit", "celsius": "celsius", "volts": "volt"}
_RATES = {"seconds": "percentunit", "bytes": "Bps"}
"""Of a counter, a second."""


@dataclass(frozen=True, slots=True)
class Panel:
    """A plot of one or more expressions; `$` in these stands for the choice of job and instance."""

    title: str
    queries: Mapping[str, str]
    """The expressions by their legends."""
    unit: str = "short"
    description: str = ""

    @property
    def expressions(self) -> list[str]:
        """What Prometheus is asked."""
        return [query.replace("$", _CHOSEN) for query in self.queries.values()]


def _quantile(share: float, metric: str) -> str:
    return f"histogram_quantile({share:g}, sum by (instance, le) (rate({metric}_bucket{{$}}[5m])))"


_CALLS = "sum by (instance) (rate(spillover_call_duration_seconds_count{$}[5m]))"
_EDGE_FIRST = (
    Panel(
        "Who answers",
        {"{{instance}} {{ending}}": "sum by (instance, ending) (rate(spillover_edge_frames_total{$}[5m]))"},
        "reqps",
        "First results a second.",
    ),
    Panel(
        "Time to the first result",
        {
            "{{instance}} p50": _quantile(0.5, "spillover_edge_latency_seconds"),
            "{{instance}} p99": _quantile(0.99, "spillover_edge_latency_seconds"),
        },
        "s",
    ),
    Panel(
        "Kept and wrong",
        {"{{instance}} {{bound}}": "spillover_edge_error_ratio{$}"},
        "percentunit",
        "Share of all frames, estimated from audits, with its interval.",
    ),
    Panel(
        "Share of frames that is sent",
        {
            "{{instance}}": "sum by (instance) (rate(spillover_edge_uplink_calls_total{$}[5m]))"
            " / sum by (instance) (rate(spillover_edge_frames_captured_total{$}[5m]))"
        },
        "percentunit",
    ),
    Panel(
        "Bytes to the cloud",
        {
            "{{instance}} {{kind}}": "sum by (instance, kind) "
            "(rate(spillover_edge_uplink_payload_bytes_total{$}[5m]))"
        },
        "Bps",
    ),
    Panel("Temperature", {"{{instance}}": "spillover_edge_temperature_celsius{$}"}, "celsius"),
)
_CLOUD_FIRST = (
    Panel(
        "Calls a second",
        {
            "{{instance}} {{method}} {{status}}": "sum by (instance, method, status) "
            "(rate(spillover_call_duration_seconds_count{$}[5m]))"
        },
        "reqps",
    ),
    Panel(
        "Time to answer",
        {
            "{{instance}} p50": _quantile(0.5, "spillover_call_duration_seconds"),
            "{{instance}} p99": _quantile(0.99, "spillover_call_duration_seconds"),
        },
        "s",
    ),
    Panel(
        "Share of calls that is refused",
        {
            "{{instance}} {{cause}}": "sum by (instance, cause) (rate(spillover_refused_calls_total{$}[5m]))"
            f" / on (instance) group_left {_CALLS}"
        },
        "percentunit",
    ),
    Panel(
        "Rows in a batch",
        {
            "{{instance}}": "sum by (instance) (rate(spillover_batch_rows_sum{$}[5m]))"
            " / sum by (instance) (rate(spillover_batch_rows_count{$}[5m]))"
        },
    ),
    Panel(
        "Memory in flight",
        {
            "{{instance}}": 'spillover_memory_in_flight_bytes{$,kind="calls"}',
            "{{instance}} limit": "spillover_memory_limit_bytes{$}",
        },
        "bytes",
    ),
    Panel(
        "Processor",
        {"{{instance}}": "rate(process_cpu_seconds_total{$}[5m])"},
        "percentunit",
        "1 is a core.",
    ),
)
_EDGE_ROWS = {
    "Frames": ("frames_", "latency", "error_ratio", "revisions", "audits", "boxes"),
    "Cameras": ("source", "pictures", "cuts"),
    "Cloud and link": ("uplink", "breaker", "pair", "stream", "budget", "certificate"),
    "Spool": ("spool",),
    "Objects": ("object", "track"),
    "Sinks and pages": ("results_", "events_", "live_"),
}
_CLOUD_ROWS = {
    "Calls": ("call_", "refused", "in_flight", "open_", "repeated", "busiest", "access"),
    "Decoding": ("decode",),
    "Models": ("batch", "infer", "queue", "loaded", "boxes", "ready"),
    "Streams": ("stream",),
    "Memory and connections": ("memory", "connections", "certificate"),
}
"""The row of a metric, by how its name goes on; what fits none is in the last row."""
_LAST_ROW = "Device and process"


def panels(side: str) -> Mapping[str, Sequence[Panel]]:
    """The panels of `edge` or `cloud` by row: the chosen ones, then one of each metric there is."""
    is_edge = side == "edge"
    first, rows = (_EDGE_FIRST, _EDGE_ROWS) if is_edge else (_CLOUD_FIRST, _CLOUD_ROWS)
    prefix = "spillover_edge_" if is_edge else "spillover_"
    plotted: dict[str, list[Panel]] = {name: [] for name in (*rows, _LAST_ROW)}
    for family, labels in _families(edge_registry() if is_edge else cloud_registry()):
        bare = family.name.removeprefix(prefix)
        found = (row for row, begins in rows.items() if bare != family.name and bare.startswith(begins))
        plotted[next(found, _LAST_ROW)].append(_plot(family, labels, bare))
    return {"At a glance": first, **plotted}


def dashboard(side: str) -> str:
    """The dashboard of `edge` or `cloud` as JSON."""
    return json.dumps(_dashboard(side), indent=1) + "\n"


def _families(registry: CollectorRegistry) -> Iterator[tuple[Metric, Sequence[str]]]:
    """What has a course over time, by name, with its labels."""
    pairs = (
        (family, labels_of(collector, family))
        for collector in list(registry._collector_to_names)
        for family in collector.collect()
        if family.type != "info" and not family.name.endswith("_info")
    )
    yield from sorted(pairs, key=lambda pair: pair[0].name)


def _plot(family: Metric, labels: Sequence[str], title: str) -> Panel:
    """One metric by its labels: a counter as rate, a histogram as median and 99th percentile."""
    name, unit = family.name, family.name.rpartition("_")[2]
    legend = " ".join(f"{{{{{label}}}}}" for label in ("instance", *labels))
    plain = title.replace("_", " ").capitalize()
    if family.type == "histogram":
        queries = {f"{{{{instance}}}} p{share * 100:g}": _quantile(share, name) for share in (0.5, 0.99)}
        return Panel(plain, queries, _UNITS.get(unit, "short"), family.documentation)
    if family.type == "counter":
        by = ", ".join(("instance", *labels))
        query = f"sum by ({by}) (rate({name}_total{{$}}[5m]))"
        return Panel(f"{plain}, a second", {legend: query}, _RATES.get(unit, "ops"), family.documentation)
    if "timestamp" in name:
        return Panel(plain, {legend: f"{name}{{$}} * 1000"}, "dateTimeAsIso", family.documentation)
    return Panel(plain, {legend: f"{name}{{$}}"}, _UNITS.get(unit, "short"), family.documentation)


def _dashboard(side: str) -> dict[str, Any]:
    job = f"spillover-{side}"
    return {
        "uid": job,
        "title": f"Spillover: {side}",
        "tags": ["spillover"],
        "timezone": "browser",
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": list(_variables(side))},
        "panels": list(_laid_out(side)),
    }


def _variables(side: str) -> Iterator[dict[str, Any]]:
    """Data source, job and instance, chosen at the top of the page."""
    seen = f"spillover_{'edge_' if side == 'edge' else ''}build_info"
    yield {"name": "source", "type": "datasource", "query": "prometheus", "label": "Data source"}
    for name, query in (
        ("job", f"label_values({seen}, job)"),
        ("instance", f'label_values({seen}{{job=~"$job"}}, instance)'),
    ):
        yield {
            "name": name,
            "type": "query",
            "datasource": {"type": "prometheus", "uid": "${source}"},
            "query": {"query": query, "refId": name},
            "refresh": 2,
            "multi": True,
            "includeAll": True,
            "allValue": ".*",
            "current": {"text": "All", "value": "$__all"},
        }


def _laid_out(side: str) -> Iterator[dict[str, Any]]:
    """Rows of three; all but the first row are folded."""
    number, top = 0, 0
    for row, (title, plots) in enumerate(panels(side).items()):
        number += 1
        head = {"id": number, "type": "row", "title": title, "collapsed": row > 0, "panels": []}
        head["gridPos"] = {"x": 0, "y": top, "w": _GRID, "h": 1}
        inside = []
        for place, plot in enumerate(plots):
            number += 1
            across, down = place % _COLUMNS, place // _COLUMNS
            width = _GRID // _COLUMNS
            where = {"x": across * width, "y": top + 1 + down * _HEIGHT, "w": width, "h": _HEIGHT}
            inside.append(_timeseries(number, plot, where))
        if row > 0:
            yield head | {"panels": inside}
            top += 1
        else:
            yield head
            yield from inside
            top += 1 + -(-len(plots) // _COLUMNS) * _HEIGHT


def _timeseries(number: int, plot: Panel, where: Mapping[str, int]) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${source}"}
    targets = [
        {"refId": chr(ord("A") + place), "expr": query, "legendFormat": legend, "datasource": source}
        for place, (legend, query) in enumerate(zip(plot.queries, plot.expressions, strict=True))
    ]
    return {
        "id": number,
        "type": "timeseries",
        "title": plot.title,
        "description": plot.description,
        "datasource": source,
        "gridPos": where,
        "fieldConfig": {"defaults": {"unit": plot.unit}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": targets,
    }
