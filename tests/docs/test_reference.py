"""docs/reference is what the code says."""

import pytest

from spillover.edge.results.delivery import OF_OBJECTS, EventKind
from tests.support.reference.commands import without_help
from tests.support.reference.dashboards import dashboard
from tests.support.reference.pages import PAGES, STRUCTURES
from tests.support.reference.records import EVENTS, ROOT, TOPICS, events_in_code, topics_in_code
from tests.support.reference.structs import undocumented


@pytest.mark.parametrize("name", PAGES)
def test_page_is_up_to_date(name: str) -> None:
    """Each generated page equals what the code gives now."""
    written = (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8")
    assert written == PAGES[name](), f"docs/reference/{name} is out of date: run `make docs`"


@pytest.mark.parametrize("side", ["edge", "cloud"])
def test_dashboard_is_up_to_date(side: str) -> None:
    """Each dashboard shows the metrics that there are now."""
    written = (ROOT / "deploy" / "grafana" / f"{side}.json").read_text(encoding="utf-8")
    assert written == dashboard(side), f"deploy/grafana/{side}.json is out of date: run `make docs`"


@pytest.mark.parametrize("kind", STRUCTURES, ids=lambda kind: kind.__name__)
def test_every_field_has_a_docstring(kind: type) -> None:
    """Each key and each field of a record is explained where it is defined."""
    assert undocumented(kind) == []


def test_every_option_has_a_help_text() -> None:
    """Each option of each command says what it does."""
    assert without_help() == []


def test_every_event_is_described() -> None:
    """The table of events names the kinds and fields that the edge emits, and no others."""
    described = {kind: set(fields) for kind, fields in EVENTS.items()}
    assert described.keys() == {kind.value for kind in EventKind}
    emitted = events_in_code()
    assert emitted == {kind: described[kind] for kind in emitted}
    # What the reporter of objects tells, tests/unit/edge/test_events_reporter.py compares.
    assert described.keys() - emitted.keys() == {one.value for one in OF_OBJECTS} | {
        "health",
        "zone_count",
        "line_count",
    }


def test_every_mqtt_topic_is_described() -> None:
    """The table of topics names those that the MQTT sink publishes to, and no others."""
    assert topics_in_code() == {name.rpartition("/")[2] for name in TOPICS}
