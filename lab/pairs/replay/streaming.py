"""Streaming accuracy of logs: at each instant the newest result against the cloud's answer of that instant.

Judged are the frames that the cloud has answered, in one of the logs; its answer to a frame always comes
after the instant of that frame, so no frame is judged by itself.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from spillover.common.tasks.detection import DETECTION
from spillover.common.types import NO_BOXES, AnsweredBy, Detections, Prediction
from spillover.edge.sinks.record import Record
from spillover.edge.tracking.values import Box
from spillover.lab.pairs.video.labels import Truth
from spillover.lab.pairs.video.objects import mean_delay_s, objects_of
from spillover.lab.pairs.video.results import Said, agreement_of_newest, newest_predictions, said_in
from spillover.lab.records import local_s, prediction_of

Frames = dict[tuple[str, int], Prediction]
"""By camera and number of the frame."""


@dataclass(frozen=True, slots=True)
class Streaming:
    """Figures of one log, or of one side of it."""

    log: str
    way: str
    """`as given`, or `edge alone`: what the edge's own boxes would have been worth."""
    frames: int
    judged: int
    streaming: float
    """Mean agreement: a detector's F1 at IoU 0.5."""
    delay_s: float | None = None
    """From an object's entry to its first detection; None unless every frame of a single run is judged."""

    def line(self) -> str:
        """What to tell of it."""
        delay = f", first detection after {self.delay_s:.2f} s" if self.delay_s is not None else ""
        return (
            f"streaming accuracy of {self.log}, {self.way}: {self.streaming:.3f}{delay} "
            f"(judged by the cloud's answers to {self.judged} of {self.frames} frames)"
        )


def streaming_of(logs: Mapping[str, Sequence[Record]]) -> list[Streaming]:
    """Figures of each log, by its name; all results, late answers too. A log without judged frames has none.

    Logs are of the same frames: those of one camera with one number are one frame.

    Raises:
        SourceError: a result is damaged.
    """
    truth = _cloud_answers([record for records in logs.values() for record in records])
    return [one for name, records in logs.items() for one in _of_log(name, records, truth)]


def _cloud_answers(records: Sequence[Record]) -> Frames:
    """The cloud's first answer to each frame."""
    answers: Frames = {}
    for record in records:
        if record.answered_by == AnsweredBy.CLOUD.value:
            answers.setdefault((record.camera_id, record.sequence), prediction_of(record))
    return answers


def _of_log(name: str, records: Sequence[Record], truth: Frames) -> Iterator[Streaming]:
    runs = _runs(records)
    frames = sum(len(run.at_s) for run in runs)
    for way in ("as given", "edge alone"):
        parts = [part for run in runs if (part := run.judge(way, truth)) is not None]
        judged = sum(part.judged for part in parts)
        if judged:
            mean = sum(part.streaming * part.judged for part in parts) / judged
            delay_s = parts[0].delay_s if len(runs) == 1 else None
            yield Streaming(name, way, frames, judged, mean, delay_s)


@dataclass(frozen=True, slots=True)
class _Part:
    judged: int
    streaming: float
    delay_s: float | None


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """One camera and start of the daemon."""

    camera_id: str
    records: Sequence[Record]
    at_s: dict[int, float]
    """When each frame was captured."""

    def judge(self, way: str, truth: Frames) -> _Part | None:
        """None where nothing can be judged, or the edge's own boxes are not in the log."""
        said = said_in(self.records) if way == "as given" else _said_by_edge(self.records)
        known = {number: truth[key] for number in self.at_s if (key := (self.camera_id, number)) in truth}
        newest = newest_predictions(said, self.at_s)
        mean = agreement_of_newest(newest, known)
        if mean is None or not said:
            return None
        return _Part(len(known), mean, self._delay_s(newest, known))

    def _delay_s(
        self, newest: Mapping[int, Prediction | None], known: Mapping[int, Prediction]
    ) -> float | None:
        boxes = [one for _, one in sorted(known.items()) if isinstance(one, Detections)]
        if len(boxes) < len(self.at_s):
            return None
        times_s = np.array([at_s for _, at_s in sorted(self.at_s.items())])
        shown = [NO_BOXES if one is None else DETECTION.own(one) for _, one in sorted(newest.items())]
        return mean_delay_s(objects_of(Truth(tuple(boxes)), times_s), shown, times_s)


def _runs(records: Sequence[Record]) -> list[_Run]:
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(record.frame_id.rpartition("-")[0], []).append(record)
    return [
        _Run(run[0].camera_id, run, {record.sequence: record.captured_unix_s for record in run})
        for run in found.values()
    ]


def _said_by_edge(records: Sequence[Record]) -> list[Said]:
    """What the edge's model said of each frame that was tracked, when it had said it; as without tracking."""
    return [
        Said(
            record.sequence,
            record.captured_unix_s + local_s(record),
            _detections(record.tracking.inputs.boxes).above(record.tracking.report_threshold),
        )
        for record in records
        if record.tracking is not None
    ]


def _detections(boxes: Sequence[Box]) -> Detections:
    if not boxes:
        return NO_BOXES
    rows = np.array(boxes, np.float32)
    return Detections(rows[:, :4], rows[:, 4], rows[:, 5].astype(np.int32))
