"""One result as one JSON object: the format of every sink, and what the workbench reads back.

    {"frame_id": "camera-5f0c2a9be1d4-17", "camera_id": "camera", "sequence": 17, "source": "n01440764.jpg",
     "captured_unix_s": 1764950400.123, "answered_by": "cloud", "revision": 0,
     "model": {"name": "efficientnet-lite2", "version": "1"},
     "classes": [{"class_id": 0, "probability": 0.91, "label": "tench"}],
     "timings": {"capture_s": 0.0021, ..., "total_s": 0.0473}, "payload_bytes": 31984,
     "decision": {"action": "send_frame", "reason": "score>=threshold", "expected_gain": 0.62,
                  "predicted_latency_s": 0.12, "inputs": {"threshold": 0.5, "prediction_score": 0.62, ...},
                  "payload": "picture", "fallback": "", "score": 0.62, "needed_bytes": 0.0,
                  "audit": null, "degraded": false, "is_probe": false, "serves_later": false},
     "error": "", "carried_from": "", "reused_from": "", "snapshot": "", "tracking": null}

Every task has a key of its own for its rows (`TaskSpec.record_key`): a detector's record has them in `boxes`,
a classifier's in `classes`. `null` means "not this task", an empty list "nothing seen". Times are in seconds,
boxes in pixels of the frame. Each box of a tracked frame says which object it is:

    {"xyxy": [10.0, 20.0, 30.0, 60.0], "confidence": 0.7, "class_id": 0, "label": "person",
     "track_id": 17, "confirmed_by": "cloud", "age_s": 0.4}

A sink with `decision: short` leaves out `inputs` and `tracking`. `audit` is
`{"would_keep": true}` or `false` for a frame that was drawn for an audit.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import msgspec

from spillover.common.tasks import TASKS, Tasks, spec_for
from spillover.common.tasks.base import NOTHING
from spillover.common.types import Decision, Detections, ModelId, Result, Timings
from spillover.edge.results.delivery import Event
from spillover.edge.tracking.steps import StepRecord

_STAGES = tuple(field.name for field in fields(Timings))
_SHORT = tuple(field.name for field in fields(Decision) if field.name != "inputs")
_TRACK = ("track_id", "confirmed_by", "age_s")


class ClassRecord(msgspec.Struct, frozen=True):
    """One class of a classification."""

    class_id: int
    """Number of the class, from 0."""
    probability: float
    """Probability of the class."""
    label: str | None = None
    """Name of the class; null if the model has no labels."""


class BoxRecord(msgspec.Struct, frozen=True):
    """One detection."""

    xyxy: list[float]
    """Left, top, right, bottom in pixels of the frame."""
    confidence: float
    """Confidence of the box."""
    class_id: int
    """Number of the class, from 0."""
    label: str | None = None
    """Name of the class; null if the model has no labels."""
    track_id: int | None = None
    """Number of the object, the same on every frame of a camera while the daemon runs; null: not tracked."""
    confirmed_by: str | None = None
    """`edge` or `cloud`: whose model confirmed the object last; the box moves with the picture between its
    looks. Null: not tracked."""
    age_s: float | None = None
    """Seconds between the capture of the frame that confirmed it and of this one; null: not tracked."""


class Record(msgspec.Struct, frozen=True):
    """One line of a JSON lines sink. `msgspec.json.decode(line, type=Record)` reads it back.

    Rows of tasks that have no field here are passed over.
    """

    frame_id: str
    """Camera, start of the daemon and number: unique."""
    camera_id: str
    """Name of the camera."""
    sequence: int
    """Number of the frame since the daemon started."""
    source: str
    """Name of the picture's file, if it came from a folder; `#41` is the 42nd picture of a video, where some
    before it were passed over."""
    captured_unix_s: float
    """Wall clock at capture; it may jump."""
    answered_by: str
    """`edge`, `cloud`, or `edge_degraded`: the edge's, because the cloud's did not come in time."""
    revision: int
    """0: the frame's first result; 1: a cloud answer that came after it."""
    model: ModelId
    """The model that answered."""
    classes: list[ClassRecord] | None
    """Classification: the best five classes, best first; null for a detector."""
    boxes: list[BoxRecord] | None
    """Detection: by descending confidence, an empty list if nothing was found; null for a classifier."""
    timings: Timings
    """Where the time went."""
    payload_bytes: int
    """Size of what was sent; 0 if nothing was."""
    decision: Decision
    """Why the frame was sent or kept."""
    error: str
    """Why the cloud's answer is missing, if it was wanted."""
    carried_from: str = ""
    """The newest frame whose cloud answer corrected the edge's; empty if none did."""
    reused_from: str = ""
    """The earlier frame whose answer by the edge's model this is, since nothing has changed; empty if it
    looked at this frame, and in answers of the cloud."""
    snapshot: str = ""
    """Name of the picture that is kept of the frame, in `evidence.folder`; empty where none is."""
    tracking: StepRecord | None = None
    """What the tracker was told of the frame, from which `lab replay` makes the tracks again; null in
    revisions, and where nothing is tracked. `decision: short` leaves it out."""


Encode = Callable[[Result], bytes]


def encode_event(event: Event) -> bytes:
    """An event as JSON: `{"event": KIND, "at_unix_s": ..., FIELD: VALUE}`; `event` comes first."""
    line = {"event": event.kind.value, "at_unix_s": round(event.at_unix_s, 6), **event.fields}
    return msgspec.json.encode(line)


def is_event(line: bytes) -> bool:
    """Whether a line of JSON is an event rather than a result."""
    return line.startswith(b'{"event":')


def record_encoder(labels: Sequence[str], tasks: Tasks = TASKS, *, inputs: bool = True) -> Encode:
    """A function from a result to its JSON, without a line's end; `labels` names the classes, or is empty.

    Without `inputs` the numbers that policy and tracker have read are left out, which are most of a record.
    """
    encoder = msgspec.json.Encoder()

    def encode(result: Result) -> bytes:
        record = to_record(result, labels, tasks)
        if inputs:
            record["tracking"] = result.step.as_record() if result.step else None
        else:
            record["decision"] = {name: getattr(result.decision, name) for name in _SHORT}
        return encoder.encode(record)

    return encode


def to_record(result: Result, labels: Sequence[str], tasks: Tasks = TASKS) -> dict[str, Any]:
    """Plain numbers and text from a result, rounded to what they can mean."""
    task = spec_for(result.prediction, tasks)
    rows = {one.record_key: None for one in tasks.values()}
    return {
        "frame_id": result.frame_id,
        "camera_id": result.camera_id,
        "sequence": result.sequence,
        "source": result.source,
        "captured_unix_s": round(result.captured_unix_s, 6),
        "answered_by": result.answered_by.value,
        "revision": result.revision,
        "model": result.model,
        **rows,
        task.record_key: task.rows(result.prediction, labels, _tracks(result)),
        "timings": Timings(*(round(getattr(result.timings, name), 6) for name in _STAGES)),
        "payload_bytes": result.payload_bytes,
        "decision": result.decision,
        "error": result.error,
        "carried_from": result.carried_from,
        "reused_from": result.reused_from,
        "snapshot": result.snapshot,
    }


def _tracks(result: Result) -> Mapping[str, Sequence[Any]]:
    """Which object each box shows; only boxes have such columns."""
    if not isinstance(result.prediction, Detections):
        return NOTHING
    if result.tracks is None:
        return dict.fromkeys(_TRACK, [None] * len(result.prediction))
    columns = (
        [mark.track_id for mark in result.tracks],
        [mark.confirmed_by.value for mark in result.tracks],
        [round(mark.age_s, 6) for mark in result.tracks],
    )
    return dict(zip(_TRACK, columns, strict=True))
