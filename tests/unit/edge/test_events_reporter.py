"""Frames, answers and tracks as the pipeline has them become the events that sinks get."""

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spillover.common.types import Detections, ModelId, SeenBy, TrackMark
from spillover.edge.events.reporter import ObjectEvents
from spillover.edge.events.values import Direction, ObjectEvent, Rules
from spillover.edge.results.delivery import DeliveryAck, Event, EventKind, Fields
from spillover.edge.runtime.frame_clock import FrameClock
from spillover.edge.sinks.record import encode_event, record_encoder
from spillover.edge.sinks.sqlite import SqliteSink
from spillover.edge.telemetry.frame_events import FrameEvents
from spillover.edge.telemetry.metrics import Metrics
from spillover.edge.tracking.stage import Shown
from spillover.edge.uplink.call_status import CallStatus
from spillover.edge.uplink.outcome import CallFailure, CloudAnswer
from tests.support.edge_values import classification, frame
from tests.support.reference.records import EVENTS
from tests.support.sightings import DOWN, LEFT_HALF

RULES = Rules(zones=(replace(LEFT_HALF, dwell_s=0.5),), lines=(DOWN,))


class Told:
    """Keeps what is told."""

    def __init__(self) -> None:
        self.events: list[tuple[EventKind, Fields]] = []

    def __call__(self, kind: EventKind, fields: Fields, of: ObjectEvent | None = None) -> None:
        """As `Tell`."""
        del of
        self.events.append((kind, fields))

    def take(self, *names: str) -> list[tuple[object, ...]]:
        """What came since the last call: the kind and these fields."""
        taken, self.events = self.events, []
        return [(kind.value, *(fields[name] for name in names if name in fields)) for kind, fields in taken]


@pytest.fixture
def told() -> Told:
    """What is told."""
    return Told()


def _boxes(*at: tuple[float, float], class_id: int = 0, confidence: float = 0.5) -> Detections:
    """Boxes of a frame of 64x48 pixels that stand at these points."""
    xyxy = np.array([(x * 64 - 2, y * 48 - 4, x * 64 + 2, y * 48) for x, y in at], np.float32)
    count = len(at)
    return Detections(
        xyxy.reshape(-1, 4), np.full(count, confidence, np.float32), np.full(count, class_id, np.int32)
    )


def _shown(boxes: Detections, *numbers: int, by: SeenBy = SeenBy.EDGE, ended: Sequence[int] = ()) -> Shown:
    return Shown(boxes, tracks=tuple(TrackMark(number, by, 0.0) for number in numbers), ended=tuple(ended))


def _answer(boxes: Detections, *numbers: int) -> CloudAnswer:
    marks = tuple(TrackMark(number, SeenBy.CLOUD, 0.0) for number in numbers)
    return CloudAnswer(boxes, ModelId("big", "1"), 0.0, 0.0, 0.0, 0.0, tracks=marks)


def test_every_kind_has_the_fields_that_the_reference_describes(told: Told) -> None:
    """No more and no less, for each event of objects, zones and lines."""
    events = ObjectEvents("cam", RULES, ("cat", "dog"), told)
    events.start()
    for number, at in enumerate([(0.8, 0.2), (0.2, 0.2), (0.2, 0.8), (0.2, 0.8), (0.8, 0.8)]):
        events.see(frame(number, number * 0.3), _shown(_boxes(at), 7))
    events.see(frame(5, 2.0), _shown(_boxes(), ended=[7]))
    found = {kind: set(fields) for kind, fields in told.events}
    assert {kind.value for kind in found} >= {
        "appeared", "enter", "leave", "dwell", "cross", "lost", "zone_count", "line_count"
    }  # fmt: skip
    assert {kind.value: names for kind, names in found.items()} == {
        kind.value: set(EVENTS[kind.value]) for kind in found
    }


def test_counts_are_told_at_the_start_and_when_they_change(told: Told) -> None:
    """With the classes inside; a broker may still hold those of an earlier run."""
    events = ObjectEvents("cam", RULES, ("cat", "dog"), told)
    events.start()
    assert told.take("zone", "line", "count", "classes", "in_count", "out_count") == [
        ("zone_count", "left", 0, {}),
        ("line_count", "gate", 0, 0),
    ]
    events.see(frame(0), _shown(_boxes((0.2, 0.2), (0.3, 0.2), class_id=1), 1, 2))
    assert told.take("count", "classes")[-1] == ("zone_count", 2, {"dog": 2})
    events.see(frame(1), _shown(_boxes((0.2, 0.2), (0.3, 0.2), class_id=0), 1, 2))
    assert told.take("count", "classes") == [("zone_count", 2, {"cat": 2})]
    events.see(frame(2), _shown(_boxes((0.2, 0.2), (0.3, 0.2), class_id=0), 1, 2))
    assert told.take() == []


def test_a_class_without_a_label_is_told_by_its_number(told: Told) -> None:
    """Models without labels have events too."""
    events = ObjectEvents("cam", RULES, (), told)
    events.see(frame(0), _shown(_boxes((0.2, 0.2), class_id=3), 1))
    assert ("zone_count", {"3": 1}) in told.take("label", "classes")


def test_a_late_answer_settles_what_its_frame_showed(told: Told) -> None:
    """Of two objects it confirms the one that it has, and withdraws the other; a later one is not judged."""
    events = ObjectEvents("cam", Rules(), (), told)
    two = _shown(_boxes((0.2, 0.2), (0.8, 0.8)), 1, 2)
    events.see(frame(0), two)
    settle = events.sent(frame(0), two)
    events.see(frame(1), _shown(_boxes((0.2, 0.2), (0.8, 0.8), (0.5, 0.5)), 1, 2, 3))
    told.take()
    answer = _answer(_boxes((0.8, 0.8)), 2)
    assert settle(answer) is answer
    assert told.take("track_id", "phase") == [
        ("appeared", 1, "withdrawn"),
        ("appeared", 2, "confirmed"),
    ]


def test_what_the_cloud_was_not_shown_is_not_judged(told: Told) -> None:
    """The edge's own boxes in an answer, as of what was redacted, neither confirm nor withdraw."""
    events = ObjectEvents("cam", Rules(), (), told)
    two = _shown(_boxes((0.2, 0.2), (0.8, 0.8)), 1, 2)
    events.see(frame(0), two)
    told.take()
    marks = (TrackMark(1, SeenBy.EDGE, 0.0),)
    events.sent(frame(0), two)(replace(_answer(_boxes((0.2, 0.2)), 1), tracks=marks))
    assert told.take("track_id", "phase") == [("appeared", 2, "withdrawn")]


def test_calls_that_say_nothing_of_tracks_settle_nothing(told: Told) -> None:
    """A failure, and an answer to a frame whose tracks nobody knows."""
    events = ObjectEvents("cam", Rules(), (), told)
    shown = _shown(_boxes((0.2, 0.2)), 1)
    events.see(frame(0), shown)
    told.take()
    events.sent(frame(0), shown)(CallFailure(CallStatus.UNAVAILABLE))
    events.sent(frame(0), shown)(replace(_answer(_boxes()), tracks=None))
    assert told.take() == []


def test_frames_without_tracks_give_no_events(told: Told) -> None:
    """Neither boxes that nobody tracks nor classes."""
    events = ObjectEvents("cam", RULES, (), told)
    events.see(frame(0), Shown(_boxes((0.2, 0.2))))
    events.see(frame(1), Shown(classification(1.0), tracks=()))
    assert told.take() == []


def test_other_rules_go_on_with_what_keeps_its_name(told: Told) -> None:
    """An object that was inside still is, and is not told again; what is gone has nobody inside."""
    events = ObjectEvents("cam", RULES, (), told)
    events.see(frame(0), _shown(_boxes((0.2, 0.2)), 1))
    events.see(frame(1), _shown(_boxes((0.2, 0.8)), 1))
    told.take()
    right = replace(LEFT_HALF, name="right", corners=np.add(LEFT_HALF.corners, (0.5, 0.0)))
    events.reconfigure(Rules(zones=(LEFT_HALF, right), lines=(DOWN,)))
    assert told.take("zone", "count") == [("zone_count", "right", 0)]
    assert events.counts.lines["gate"] == {Direction.IN: 1, Direction.OUT: 0}
    events.see(frame(2), _shown(_boxes((0.8, 0.8)), 1))
    moved = [one for one in told.take("zone", "count") if len(one) == 2]
    assert moved == [("leave", "left"), ("enter", "right")]
    events.reconfigure(Rules())
    assert told.take("zone", "count") == [("zone_count", "right", 0)]
    events.see(frame(3), _shown(_boxes(), ended=[1]))
    assert told.take() == [("lost",)]


def test_an_event_has_the_time_of_its_frame_and_is_counted() -> None:
    """In metrics by kind and phase; the number of objects in a zone as well. Sinks get it as JSON."""
    metrics, put = Metrics(), list[Event]()
    report = FrameEvents(metrics, put.append, FrameClock("boot"))  # type: ignore[arg-type]
    events = ObjectEvents("cam", RULES, ("cat",), report.happened)
    events.see(frame(3), _shown(_boxes((0.2, 0.2)), 1))
    assert [event.kind.value for event in put] == ["appeared", "enter", "zone_count", "line_count"]
    assert put[0].at_unix_s == 1.7e9
    line = json.loads(encode_event(put[1]))
    assert (line["event"], line["at_unix_s"], line["event_id"]) == ("enter", 1.7e9, "cam-boot-3:enter:1:left")
    assert metrics.summary()["object_events[enter,provisional]"] == 1
    value = metrics.registry.get_sample_value(
        "spillover_edge_objects_inside", {"camera": "cam", "zone": "left"}
    )
    assert value == 1


def test_sql_has_each_event_once_in_its_last_phase(tmp_path: Path) -> None:
    """The view `object_events`, whatever else the table holds."""
    path = tmp_path / "results.db"
    sink = SqliteSink(str(path), record_encoder(()), 7.0, 10_000_000)
    metrics = Metrics()

    def put(item: object) -> DeliveryAck:
        assert isinstance(item, Event)
        sink.tell(item)
        return DeliveryAck(0)

    events = ObjectEvents("cam", RULES, ("cat",), FrameEvents(metrics, put, FrameClock("boot")).happened)
    events.start()
    shown = _shown(_boxes((0.2, 0.2), (0.8, 0.2)), 1, 2)
    events.see(frame(3), shown)
    events.sent(frame(3), shown)(_answer(_boxes((0.2, 0.2)), 1))
    sink.flush()
    with closing(sqlite3.connect(path)) as db:
        rows = db.execute("select kind, phase, place, track_id, label from object_events").fetchall()
    sink.close()
    assert sorted(rows, key=str) == [
        ("appeared", "confirmed", None, 1, "cat"),
        ("appeared", "withdrawn", None, 2, "cat"),
        ("enter", "confirmed", "left", 1, "cat"),
    ]
