"""What sinks write: events, SQLite tables, MQTT topics."""

import ast
import enum
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from spillover.edge.camera.source import CameraState
from spillover.edge.config import EventsConfig, LineConfig, MqttConfig, ZoneConfig
from spillover.edge.events.values import Direction, Phase
from spillover.edge.health.ladder import Cause
from spillover.edge.health.readings import HealthReport
from spillover.edge.link.state import BreakerPhase
from spillover.edge.results.delivery import OF_OBJECTS, EventKind
from spillover.edge.sinks.discovery import announced, announcements, device_announcements
from spillover.edge.sinks.record import Record
from spillover.edge.sinks.sqlite import _SCHEMA
from spillover.edge.spool.values import Fate
from tests.support.reference.docstrings import member_docs
from tests.support.reference.markdown import table

ROOT = Path(__file__).parents[3]


def _one_of(states: Iterable[enum.Enum]) -> str:
    """The values of states, as text."""
    *first, last = (f"`{state.value}`" for state in states)
    return f"{', '.join(first)} or {last}"


_OF_OBJECT: Mapping[str, str] = {
    "camera_id": "the camera",
    "event_id": "unique; the same when the cloud settles an event that was provisional",
    "phase": _one_of(Phase),
    "track_id": "the object",
    "class_id": "number of its class",
    "label": "name of its class; empty without one",
    "frame_id": "the frame in which it happened",
    "best_frame_id": "the frame that has shown the object with the highest confidence so far",
}
_OF_EVIDENCE: Mapping[str, str] = {
    "snapshot": "name of the picture that is kept of the frame; not there where none is",
    "clip": "name of the clip that it is in; likewise",
}
"""What `evidence` adds to the events of objects."""
_OF_ZONE = {"zone": "name of the zone"}

EVENTS: Mapping[str, Mapping[str, str]] = {
    EventKind.STARTED.value: {
        "boot_id": "this start of the daemon",
        "cameras": "names of the cameras, with commas between them",
    },
    EventKind.STOPPED.value: {
        "boot_id": "this start of the daemon",
        "captured": "number of frames that were captured",
    },
    EventKind.DROPPED.value: {
        "camera_id": "the camera",
        "frame_id": "a frame that has no result",
        "sequence": "its number",
        "reason": "why",
    },
    EventKind.CAMERA_STATE.value: {
        "camera_id": "the camera",
        "state": _one_of(CameraState),
        "detail": "what is known of the cause",
    },
    EventKind.CLOCK_SET.value: {
        "boot_id": "this start of the daemon",
        "shift_s": "seconds to add to the times of its results that stand before this event",
        "to_sequence": "up to the frame of this number; later frames have the right time. -1: there was none",
        "from_unix_s": "where those times begin, as they were",
        "to_unix_s": "where they end",
    },
    EventKind.LADDER.value: {
        "step": "where the device stands now: 0 it does everything, 6 it pauses",
        "before": "the step before",
        "does": "what it does there, in words",
        "cause": f"{_one_of(Cause)}; empty on step 0",
        "reason": "the figure that led there",
    },
    EventKind.HEALTH.value: member_docs(HealthReport),
    EventKind.BREAKER.value: {"phase": _one_of(BreakerPhase)},
    EventKind.SPOOL.value: {
        "frame_id": "a frame on the disk",
        "fate": _one_of(fate for fate in Fate if fate is not Fate.DUPLICATE),
    },
    EventKind.APPEARED.value: _OF_OBJECT,
    EventKind.ENTER.value: {**_OF_OBJECT, **_OF_ZONE},
    EventKind.LEAVE.value: {**_OF_OBJECT, **_OF_ZONE},
    EventKind.DWELL.value: {**_OF_OBJECT, **_OF_ZONE},
    EventKind.CROSS.value: {
        **_OF_OBJECT,
        "line": "name of the line",
        "direction": _one_of(Direction),
    },
    EventKind.LOST.value: _OF_OBJECT,
    EventKind.ZONE_COUNT.value: {
        "camera_id": "the camera",
        **_OF_ZONE,
        "count": "number of objects in it now",
        "classes": "the same by label, or by number where there is none",
    },
    EventKind.LINE_COUNT.value: {
        "camera_id": "the camera",
        "line": "name of the line",
        "in_count": "crossings `in` since the start of the daemon, withdrawn ones left out",
        "out_count": "crossings `out`, likewise",
    },
    EventKind.EVIDENCE.value: {
        "camera_id": "the camera",
        "frame_id": "the frame that it shows",
        "name": "the file in `evidence.folder`, which is whole",
    },
}
"""Kinds of events, and what their fields say."""

COLUMNS: Mapping[str, str] = {
    "model": "Name and version of the model that answered, as `name@version`.",
    "total_s": "Seconds from capture to this result.",
    "record": "The whole result or event as JSON.",
    "at_unix_s": "Wall clock when it happened.",
    "kind": "Kind of the event.",
}
"""Columns that are not fields of a result."""

TOPICS: Mapping[str, tuple[str, str]] = {
    "status": (
        "yes",
        "`online`, or `offline`: the last will, which the broker publishes 15 s after a power cut",
    ),
    "health": (
        "yes",
        "how the device is, as JSON, once a minute and after each step of the ladder; null: it has no sensor",
    ),
    "CAMERA/result": ("no", "every result and revision, as JSON"),
    "CAMERA/state": (
        "yes",
        "the newest frame as JSON: `frame_id`, `answered_by`, `class_id`, `confidence`, `objects`, `total_s`",
    ),
    "CAMERA/camera_state": ("yes", _one_of(CameraState)),
    "CAMERA/snapshot": ("yes", "the newest picture of `evidence` with boxes, as JPEG; with `snapshots`"),
    "CAMERA/zones/ZONE/occupancy": ("yes", "`ON` while somebody is in the zone, else `OFF`"),
    "CAMERA/zones/ZONE/count": ("yes", "the number of objects in it"),
    "CAMERA/zones/ZONE/classes": ("yes", 'the same by class, as JSON: `{"person": 2}`'),
    "CAMERA/zones/ZONE/last_event": ("yes", "the last `enter`, `leave` or `dwell`, as JSON"),
    "CAMERA/lines/LINE/in": ("yes", "crossings `in` since the start of the daemon, withdrawn ones left out"),
    "CAMERA/lines/LINE/out": ("yes", "crossings `out`, likewise"),
    "CAMERA/lines/LINE/last_event": ("yes", "the last `cross`, as JSON"),
    "CAMERA/event": ("no", "every event that concerns this camera alone, as JSON"),
    "event": ("no", "every other event, as JSON"),
}
"""MQTT topics below TOPIC/DEVICE: whether they are retained, and what they hold."""


def events() -> str:
    """A table of events and their fields."""
    alike = ", ".join(f"`{kind.value}`" for kind in EventKind if kind in OF_OBJECTS)
    rows = [(alike, f"`{name}`", text) for name, text in {**_OF_OBJECT, **_OF_EVIDENCE}.items()]
    for kind, fields in EVENTS.items():
        shared = _OF_OBJECT if fields.keys() >= _OF_OBJECT.keys() else {}
        rows += [(f"`{kind}`", f"`{name}`", text) for name, text in fields.items() if name not in shared]
    return table(("event", "field", "meaning"), rows)


def events_in_code() -> dict[str, set[str]]:
    """Kinds of events and their fields, as the edge's source passes them to `emit`."""
    return {
        kind: {keyword.arg for keyword in call.keywords if keyword.arg}
        for path in (ROOT / "edge").rglob("*.py")
        for call in _calls(path, "emit")
        if call.args and call.keywords and (kind := _constant(call.args[0]))
    }


def topics_in_code() -> set[str]:
    """The last parts of the topics that the MQTT sink publishes to."""
    return set(re.findall(r"_topic\}/(\w+)\"", (ROOT / "edge/sinks/mqtt.py").read_text(encoding="utf-8")))


def topics() -> str:
    """A table of MQTT topics."""
    rows = ((f"`TOPIC/DEVICE/{name}`", *told) for name, told in TOPICS.items())
    return table(("topic", "retained", "payload"), rows)


def home_assistant_topics() -> str:
    """The messages that announce a camera to Home Assistant."""
    polygon = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0))
    events = EventsConfig(
        zones=(ZoneConfig(name="ZONE", polygon=polygon, classes=("CLASS",)),),
        lines=(LineConfig(name="LINE", points=polygon[:2]),),
    )
    broker = MqttConfig(host="broker", snapshots=True)
    named = announcements(broker, "DEVICE", announced("CAMERA", events, ()))
    named += device_announcements(broker, "DEVICE")
    return "\n".join(f"- `{topic}`" for topic, _ in named)


def sqlite_tables() -> str:
    """The tables and views of the SQLite sink, as SQLite itself describes them."""
    db = sqlite3.connect(":memory:")
    try:
        db.executescript(_SCHEMA)
        made = db.execute(
            "select type, name, sql from sqlite_master where type in ('table', 'view')"
        ).fetchall()
        return "\n\n".join(
            _table(db, name) if kind == "table" else _view(name, sql) for kind, name, sql in made
        )
    finally:
        db.close()


def _table(db: sqlite3.Connection, name: str) -> str:
    fields = member_docs(Record)
    rows = (
        (f"`{column}`", kind.lower(), COLUMNS.get(column) or fields[column], "yes" if key else "")
        for _, column, kind, _, _, key in db.execute(f"pragma table_info({name})")
    )
    return f"## Table `{name}`\n\n" + table(("column", "type", "meaning", "key"), rows)


def _view(name: str, sql: str) -> str:
    return f"## View `{name}`\n\n```sql\n{sql}\n```"


def _calls(path: Path, method: str) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == method:
            yield node


def _constant(node: ast.expr) -> str:
    """A string, or the name of an enum's member in lower case."""
    match node:
        case ast.Constant(value=str() as text):
            return text
        case ast.Attribute(attr=name):
            return name.lower()
    return ""
