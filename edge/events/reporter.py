"""Tells the events of one camera's objects: runs the state machine and gives the sinks what comes out."""

import threading
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from spillover.common.types import Detections, Frame, SeenBy, TrackMark
from spillover.edge.events.machine import State, counts, judge, kept, see
from spillover.edge.events.values import Counts, ObjectEvent, Rules, Sighting, Verdict
from spillover.edge.results.delivery import EventKind, Fields
from spillover.edge.tracking.stage import OnReply, Shown
from spillover.edge.uplink.outcome import CallOutcome, CloudAnswer


class Tell(Protocol):
    """Takes an event to the sinks; must not block."""

    def __call__(self, kind: EventKind, fields: Fields, of: ObjectEvent | None = None, /) -> None:
        """`of` is what happened in a frame of an earlier time; without it the event is of now."""
        ...


class ObjectEvents:
    """The events of one camera. Thread-safe; never blocks. `tell` takes each event, in order."""

    def __init__(self, camera_id: str, rules: Rules, labels: Sequence[str], tell: Tell) -> None:
        self._camera_id = camera_id
        self._rules = rules
        self._labels = labels
        self._tell = tell
        self._lock = threading.Lock()
        self._state = State()
        self._told = Counts()

    @property
    def counts(self) -> Counts:
        """Who is in the zones now, and what the lines have counted."""
        with self._lock:
            return counts(self._rules, self._state)

    def by_label(self, found: Counts) -> dict[str, dict[str, int]]:
        """Who is in each zone, by the names of classes; by number where there is none."""
        return {
            zone: {self._label(number) or str(number): many for number, many in by_class.items()}
            for zone, by_class in found.zones.items()
        }

    def start(self) -> None:
        """Say the counts as they are: what a broker keeps of an earlier run is over."""
        with self._lock:
            self._tell_counts()

    @property
    def rules(self) -> Rules:
        """What is an event now."""
        return self._rules

    def reconfigure(self, rules: Rules) -> None:
        """Go on with other rules; may be called on any thread.

        Zones and lines that keep their names keep who is inside and what they have counted. One that is gone
        tells nothing more but that nobody is in it.
        """
        with self._lock:
            self._rules, self._state = rules, kept(rules, self._state)
            self._tell_counts()

    def see(self, frame: Frame, shown: Shown) -> None:
        """The next frame; frames come in order."""
        boxes = shown.prediction.boxes
        if shown.tracks is None or boxes is None:
            return
        seen = _sighting(frame, boxes, shown.tracks, shown.ended)
        with self._lock:
            self._state, told = see(self._rules, self._state, seen)
            self._tell_all(told)

    def sent(self, frame: Frame, shown: Shown) -> OnReply:
        """Note that the newest frame is sent; the returned function must get its outcome, even a late one."""
        on_frame = frozenset(mark.track_id for mark in shown.tracks or ())

        def on_reply(outcome: CallOutcome) -> CallOutcome:
            if isinstance(outcome, CloudAnswer) and outcome.tracks is not None:
                self._judge(frame.frame_id, on_frame, outcome)
            return outcome

        return on_reply

    def _judge(self, frame_id: str, on_frame: frozenset[int], answer: CloudAnswer) -> None:
        boxes, marks = answer.prediction.boxes, answer.tracks
        if boxes is None or marks is None:
            return
        seen, unjudged = dict[int, float](), set[int]()
        for mark, confidence in zip(marks, boxes.confidence.tolist(), strict=True):
            if mark.confirmed_by is SeenBy.CLOUD:
                seen[mark.track_id] = confidence
            else:  # the edge's own box: the cloud was not shown that part, or what is there was hidden
                unjudged.add(mark.track_id)
        with self._lock:
            self._state, told = judge(self._state, Verdict(frame_id, on_frame - unjudged, seen))
            self._tell_all(told)

    def _tell_all(self, told: Sequence[ObjectEvent]) -> None:
        for event in told:
            self._tell(event.kind, self._fields(event), event)
        self._tell_counts()

    def _fields(self, event: ObjectEvent) -> dict[str, str | int]:
        fields: dict[str, str | int] = {
            "camera_id": self._camera_id,
            "event_id": event.event_id,
            "phase": event.phase.value,
            "track_id": event.track_id,
            "class_id": event.class_id,
            "label": self._label(event.class_id) or "",
            "frame_id": event.frame_id,
            "best_frame_id": event.best_frame_id,
        }
        if event.zone:
            fields["zone"] = event.zone
        if event.line:
            fields |= {"line": event.line, "direction": event.direction}
        return fields

    def _tell_counts(self) -> None:
        """Say what has changed since it was last said."""
        now, before = counts(self._rules, self._state), self._told
        self._told = now
        zones: dict[str, Mapping[int, int]] = {zone: {} for zone in before.zones} | dict(now.zones)
        for zone, classes in self.by_label(Counts(zones)).items():
            if zones[zone] != before.zones.get(zone):
                at = {"camera_id": self._camera_id, "zone": zone}
                told: Fields = {**at, "count": sum(classes.values()), "classes": classes}
                self._tell(EventKind.ZONE_COUNT, told)
        for line, ways in now.lines.items():
            if ways != before.lines.get(line):
                by_way = {f"{way.value}_count": many for way, many in ways.items()}
                self._tell(EventKind.LINE_COUNT, {"camera_id": self._camera_id, "line": line, **by_way})

    def _label(self, class_id: int) -> str | None:
        return self._labels[class_id] if 0 <= class_id < len(self._labels) else None


def _sighting(
    frame: Frame, boxes: Detections, marks: Sequence[TrackMark], ended: tuple[int, ...]
) -> Sighting:
    height, width = frame.image.shape[:2]
    return Sighting(
        frame_id=frame.frame_id,
        sequence=frame.sequence,
        at_s=frame.captured_monotonic_s,
        at_unix_s=frame.captured_unix_s,
        width=width,
        height=height,
        xyxy=boxes.xyxy,
        confidence=boxes.confidence,
        class_id=boxes.class_id,
        track_id=np.array([mark.track_id for mark in marks], np.int64),
        by_cloud=np.array([mark.confirmed_by is SeenBy.CLOUD for mark in marks], np.bool_),
        ended=ended,
    )
