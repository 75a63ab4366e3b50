"""Quality of the edges' answers in a run: agreement, streaming accuracy, tracks."""

from collections.abc import Mapping, Sequence

import numpy as np

from spillover.common.types import NO_BOXES, Detections, SeenBy
from spillover.edge.sinks.record import Record
from spillover.lab.loadtest.outcomes import Answered, Window, in_window
from spillover.lab.loadtest.reference import Reference
from spillover.lab.pairs.video.identity import Numbered, identity
from spillover.lab.pairs.video.labels import Truth
from spillover.lab.pairs.video.objects import mean_delay_s, objects_of
from spillover.lab.pairs.video.results import agreement_of_newest, newest_predictions, said_in
from spillover.lab.records import prediction_of, tracks_of


def quality_figures(
    records: Sequence[Record], fps: float, window: Window, reference: Reference
) -> dict[str, float]:
    """Figures of the frames in the window; those that the source or its labels do not allow are left out.

    Each instant at which a frame was due is judged, whether or not that frame was ever answered.
    """
    frames, numbers, start_s = in_window(records, fps, window)
    due_s = {number: start_s + number / fps for number in numbers}
    truth = {number: reference.cloud[reference.place(number)] for number in numbers}
    newest = newest_predictions(said_in(records), due_s)
    figures = {
        "agreement": reference.agreement(frames),
        "final_agreement": reference.agreement(frames, final=True),
        "accuracy": reference.accuracy(frames),
        "streaming": agreement_of_newest(newest, truth),
    }
    if (objects := reference.objects_at(numbers)) is not None:
        shown = [one if isinstance(one, Detections) else NO_BOXES for one in newest.values()]
        times_s = np.array(list(due_s.values()))
        figures["detection_delay_s"] = mean_delay_s(objects_of(objects, times_s), shown, times_s)
        figures |= _track_figures(frames, numbers, objects)
    return {name: figure for name, figure in figures.items() if figure is not None}


def over_edges(of_edges: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each figure over the edges that have it, and how far agreement and accuracy lie apart.

    Edges that play the same pictures differ all the same: what is sent, and when it is back, is not alike.
    """
    names = dict.fromkeys(name for figures in of_edges for name in figures)
    columns = {name: [figures[name] for figures in of_edges if name in figures] for name in names}
    spread = {
        f"{name}_spread": max(columns[name]) - min(columns[name])
        for name in ("agreement", "accuracy")
        if len(columns.get(name, ())) > 1
    }
    return {name: float(np.mean(column)) for name, column in columns.items()} | spread


def _track_figures(
    frames: Mapping[int, Answered], numbers: Sequence[int], truth: Truth
) -> dict[str, float | None]:
    """Objects that first answers follow, the share of their boxes that the cloud confirmed, identities."""
    first = {number: frame.first for number, frame in frames.items()}
    marks = {number: tracks_of(record) for number, record in first.items()}
    shown = [mark for of_frame in marks.values() for mark in of_frame or ()]
    if not shown:
        return {}
    figures: dict[str, float | None] = {
        "tracks": len({mark.track_id for mark in shown}),
        "confirmed_share": sum(mark.confirmed_by is SeenBy.CLOUD for mark in shown) / len(shown),
    }
    if truth.ids is None:
        return figures
    true = [Numbered(*one) for one in zip(truth.boxes, truth.ids, strict=True)]
    tracked = [_numbered(first.get(number), truth) for number in numbers]
    found = identity(true, tracked)
    return figures | {"idf1": found.idf1, "switches": found.switches}


def _numbered(record: Record | None, truth: Truth) -> Numbered:
    """The boxes of a frame with their tracks; none where it was never answered, or not tracked."""
    marks = tracks_of(record) if record is not None else None
    if record is None or marks is None:
        return Numbered(NO_BOXES, np.zeros(0, np.int64))
    boxes = prediction_of(record)
    assert isinstance(boxes, Detections)  # noqa: S101 - only boxes have marks
    judged = truth.is_judged(boxes)
    return Numbered(boxes[judged], np.array([mark.track_id for mark in marks], np.int64)[judged])
