"""Events in a running daemon: real tracker, real gRPC, an edge that sees ghosts, and a late cloud."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.moving import Walker, World
from tests.support.scripted_cloud import PATIENCE_S, Held, scripted_cloud
from tests.support.tracked import Street, says, until

WALKER = 0
SCENE = World((Walker(20, 60, dx=6), Walker(220, 150, class_id=2)))
"""One object walks to the right; at the other the cloud sees nothing."""
FRAMES, SENT, ANSWERED = 40, 5, 10
LEFT = [[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]]
EVENTS: dict[str, Any] = {
    "zones": [
        {"name": "left", "polygon": LEFT},
        {"name": "all", "polygon": [[0, 0], [1, 0], [1, 1], [0, 1]]},
    ],
    "lines": [{"name": "gate", "points": [[0.6, 1.0], [0.6, 0.0]]}],
}
"""From bottom to top of the picture: `in` is to the right."""


@pytest.fixture
def street(tmp_path: Path) -> Street:
    """A street in a folder of its own."""
    street = Street(tmp_path)
    street.film(SCENE, FRAMES)
    return street


def told(street: Street, *fields: str) -> list[tuple[Any, ...]]:
    """The events of objects in the log: kind and these fields."""
    lines = map(json.loads, street.log.read_text(encoding="utf-8").splitlines())
    return [
        (line["event"], *(line.get(name) for name in fields))
        for line in lines
        if "event" in line and "event_id" in line
    ]


def test_without_a_cloud_all_events_stay_provisional(street: Street) -> None:
    """Each once, with zone, line and direction; the status has the counts of the end."""
    seen = street.run(SCENE.boxes, mode="edge_only", events=EVENTS)
    assert told(street, "track_id", "zone", "line", "direction", "phase") == [
        ("appeared", 1, None, None, None, "provisional"),
        ("enter", 1, "left", None, None, "provisional"),
        ("enter", 1, "all", None, None, "provisional"),
        ("appeared", 2, None, None, None, "provisional"),
        ("enter", 2, "all", None, None, "provisional"),
        ("leave", 1, "left", None, None, "provisional"),
        ("cross", 1, None, "gate", "in", "provisional"),
    ]
    (camera,) = seen.status.cameras
    assert [(zone.name, zone.count) for zone in camera.zones] == [("left", 0), ("all", 2)]
    assert [(line.name, line.in_count, line.out_count) for line in camera.lines] == [("gate", 1, 0)]


def test_a_late_answer_confirms_the_one_and_withdraws_the_other(street: Street) -> None:
    """What was told before is settled when the answer comes; what follows is confirmed at once."""
    behaviour = Held(says(lambda number: SCENE.boxes(number, 0.9, WALKER)))
    with scripted_cloud(behaviour) as cloud:

        def meanwhile(daemon: Any, number: int) -> None:
            if number == ANSWERED:
                until(lambda: daemon.metrics.summary().get("frames[edge_degraded]", 0) == 1)
                behaviour.release.set()
                until(lambda: daemon.metrics.summary().get("revisions", 0) == 1)

        seen = street.run(
            SCENE.boxes,
            sent=[SENT],
            meanwhile=meanwhile,
            uplink={"address": cloud.address, "late_answer_window_s": PATIENCE_S},
            deadline_s=0.2,
            events=EVENTS,
        )
    walker, ghost = (_of(street, track_id) for track_id in (1, 2))
    assert walker == [
        ("appeared", None, "provisional"),
        ("enter", "left", "provisional"),
        ("enter", "all", "provisional"),
        ("appeared", None, "confirmed"),
        ("enter", "left", "confirmed"),
        ("enter", "all", "confirmed"),
        ("leave", "left", "confirmed"),
        ("cross", None, "confirmed"),
    ]
    assert ghost == [
        ("appeared", None, "provisional"),
        ("enter", "all", "provisional"),
        ("appeared", None, "withdrawn"),
        ("enter", "all", "withdrawn"),
    ]
    (camera,) = seen.status.cameras
    assert [(zone.name, zone.count) for zone in camera.zones] == [("left", 0), ("all", 1)]
    events = {one[1]: one[0] for one in told(street, "event_id")}
    assert len(events) == 7  # settled under the number under which it was told


def _of(street: Street, track_id: int) -> list[tuple[Any, ...]]:
    return [
        (kind, zone, phase)
        for kind, number, zone, phase in told(street, "track_id", "zone", "phase")
        if number == track_id
    ]


def test_a_class_that_nobody_wants_is_not_there(street: Street) -> None:
    """It is neither reported nor tracked nor told, whoever answers, nor a reason to send a frame."""
    with scripted_cloud(says(SCENE.boxes)) as cloud:
        wanted = {"model": {"classes": [0]}, "uplink": {"address": cloud.address}, "events": EVENTS}
        kept = street.run(SCENE.boxes, sent=[SENT], **wanted)
        assert cloud.requests == []  # what is in doubt there is of another class
        events = told(street, "zone", "class_id")
        street.log.unlink()
        answered = street.run(SCENE.boxes, mode="cloud_only", **wanted)
    assert {one.answered_by for one in answered.first} == {"cloud"}
    for record in (*kept.first, *answered.first):
        assert {box.class_id for box in record.boxes or ()} == {0}
    assert {number for _, _, number in events} == {0}
    assert events[:3] == [("appeared", None, 0), ("enter", "left", 0), ("enter", "all", 0)]
