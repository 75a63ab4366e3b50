"""Metrics of both sides by Prometheus' conventions, and the alert rules and dashboards that use them.

The rules are those of `promtool check metrics`, and https://prometheus.io/docs/practices/naming.
"""

import re
import shutil
import subprocess
from pathlib import Path

import grpc
import pytest
import yaml
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.reference.dashboards import panels
from tests.support.reference.metrics import cloud_registry, edge_registry, labels_of

ALERTS = Path(__file__).parents[2] / "deploy" / "prometheus" / "alerts.yaml"
REGISTRIES = {"cloud": cloud_registry(), "edge": edge_registry()}
PAGES = {side: generate_latest(registry).decode() for side, registry in REGISTRIES.items()}
FAMILIES = {family.name: family for page in PAGES.values() for family in text_string_to_metric_families(page)}
OURS = [pytest.param(family, id=name) for name, family in FAMILIES.items() if name.startswith("spillover_")]
DECLARED = {
    family.name: set(labels_of(collector, family))
    for registry in REGISTRIES.values()
    for collector in registry._collector_to_names
    for family in collector.collect()
}
"""The labels of a metric, also of one that has no series yet."""
TYPES = {"gauge", "counter", "histogram", "summary", "untyped"}
OTHER_UNITS = {
    "milliseconds", "microseconds", "nanoseconds", "minutes", "hours", "days", "weeks",
    "kilobytes", "megabytes", "gigabytes", "bits", "percent", "percentage", "celcius", "fahrenheit",
    "s", "ms", "us", "ns", "sec", "b", "kb", "mb", "gb", "pct",
}  # fmt: skip
"""Units that are no base units, and abbreviations."""
CLOSED = {
    "status": {code.name for code in grpc.StatusCode},
    "method": {sample.labels["method"] for sample in FAMILIES["spillover_call_sent_bytes"].samples},
}
"""Values of labels whose series appear when they are first needed."""
UNITS = ("seconds", "bytes", "ratio")
SELECTOR = re.compile(r"\b((?:spillover|process)_\w+)(?:{([^}]*)})?")
"""A metric in an expression, with what stands in its braces."""
SNAKE_CASE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


@pytest.mark.parametrize("family", OURS)
def test_a_name_follows_the_conventions(family):
    """Snake case, base units at the end, no type, `_total` for counters alone, a help text."""
    name = family.name
    words = name.split("_")
    assert SNAKE_CASE.fullmatch(name)
    assert not OTHER_UNITS & set(words)
    assert not TYPES & set(words)
    assert family.documentation.endswith(".")
    assert words[-1] not in {"total", "bucket", "count", "sum", "created"}
    if unit := next((unit for unit in UNITS if unit in words), None):
        assert words[-1] == unit


@pytest.mark.parametrize("family", OURS)
def test_labels_follow_the_conventions(family):
    """Snake case, no word of the metric's own name, none that Prometheus needs for itself."""
    labels = DECLARED.get(family.name, set()) | {
        label for sample in family.samples for label in sample.labels
    }
    assert all(SNAKE_CASE.fullmatch(label) for label in labels)
    assert not labels & set(family.name.split("_"))
    assert not labels & {"job", "instance", "quantile"}
    assert "le" not in labels or family.type == "histogram"


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_no_series_says_when_it_began(page):
    """`_created` doubles the page, and Prometheus does not use it."""
    assert "_created" not in page


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_the_process_and_its_versions_are_there(page):
    """What every dashboard looks for."""
    for name in (
        "process_resident_memory_bytes",
        "process_cpu_seconds_total",
        "process_open_fds",
        "python_info",
    ):
        assert re.search(rf"^{name}\b", page, re.MULTILINE)
    assert re.search(r'_build_info{grpc="[\d.]+",.*version="[\d.]+"} 1.0', page)


@pytest.mark.needs("promtool")
@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_promtool_finds_no_fault_in_the_page(page):
    """Prometheus' own check of names and types."""
    check = subprocess.run(
        [promtool(), "check", "metrics"], input=page, capture_output=True, text=True, check=False, timeout=60
    )
    assert (check.returncode, check.stderr) == (0, "")


@pytest.mark.needs("promtool")
def test_promtool_finds_no_fault_in_the_alerts():
    """Prometheus could load them."""
    check = subprocess.run(
        [promtool(), "check", "rules", str(ALERTS)], capture_output=True, text=True, check=False, timeout=60
    )
    assert check.returncode == 0, check.stdout + check.stderr


def test_every_metric_of_an_alert_exists_with_its_labels():
    """No alert waits for a series that is never there."""
    rules = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    assert all({"alert", "expr", "annotations"} <= rule.keys() for rule in rules)
    assert all_exist([rule["expr"] for rule in rules]) > 20


@pytest.mark.parametrize("side", ["edge", "cloud"])
def test_every_metric_of_a_dashboard_exists_with_its_labels(side):
    """No panel stays empty for want of a metric; what the chosen panels ask is written by hand."""
    assert all_exist(expressions_of(side)) > 20


@pytest.mark.needs("promtool")
@pytest.mark.parametrize("side", ["edge", "cloud"])
def test_promtool_reads_every_expression_of_a_dashboard(side, tmp_path):
    """Prometheus could answer them."""
    rules = [{"record": f"panel_{number}", "expr": one} for number, one in enumerate(expressions_of(side))]
    file = tmp_path / "panels.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    check = subprocess.run(
        [promtool(), "check", "rules", str(file)], capture_output=True, text=True, check=False, timeout=60
    )
    assert check.returncode == 0, check.stdout + check.stderr


def expressions_of(side):
    """What the panels of a dashboard ask, with every job and instance chosen."""
    asked = [one for row in panels(side).values() for panel in row for one in panel.expressions]
    return [one.replace("$job", ".*").replace("$instance", ".*") for one in asked]


def all_exist(expressions):
    """Check each metric and its labels; how many there were."""
    used = [found for one in expressions for found in SELECTOR.findall(one)]
    for name, matchers in used:
        family = FAMILIES[family_name(name)]
        for label, values in re.findall(r'(\w+)(?:=~|!=|=)"([^"]*)"', matchers):
            if label in {"job", "instance"}:
                continue
            assert label in DECLARED[family.name], (name, label)
            known = CLOSED.get(label) or {sample.labels[label] for sample in family.samples}
            assert not known or set(values.split("|")) <= known, (name, label, values)
    return len(used)


def family_name(series: str) -> str:
    """The family of a series; the parser names counters without `_total`."""
    bare = (series.removesuffix(ending) for ending in ("", "_total", "_bucket", "_count", "_sum"))
    return next((name for name in bare if name in FAMILIES), series)


def promtool() -> str:
    """Where it is, or a skip."""
    if (path := shutil.which("promtool")) is None:
        pytest.skip("promtool is not installed")
    return path
