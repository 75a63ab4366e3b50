"""Which boxes are reported: wanted classes, each from its own confidence on."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from spillover.common.model.calibration import Calibration
from spillover.common.types import Detections, SeenBy, TrackMark
from spillover.edge.assembly.daemon import open_model
from spillover.edge.assembly.offload import reported_of_answers
from spillover.edge.config import EdgeConfig
from spillover.edge.inference.reported import ReportFilter
from spillover.edge.tracking.stage import Shown
from spillover.lab.pairs.fit.calibrate import write_calibration
from tests.support.edge_values import classification
from tests.support.models import centre_detector

CAT, DOG, COW = 0, 1, 2


def _boxes(*rows: tuple[int, float]) -> Detections:
    """Boxes of these classes and confidences."""
    count = len(rows)
    return Detections(
        np.tile(np.array([1, 2, 3, 4], np.float32), (count, 1)),
        np.array([confidence for _, confidence in rows], np.float32),
        np.array([class_id for class_id, _ in rows], np.int32),
    )


def _told(boxes: Detections) -> list[tuple[int, float]]:
    return [(int(a), round(float(b), 2)) for a, b in zip(boxes.class_id, boxes.confidence, strict=True)]


def test_each_class_is_reported_from_its_own_confidence_on() -> None:
    """Above or below the usual one."""
    rule = ReportFilter(0.5, {CAT: 0.7, DOG: 0.2})
    boxes = _boxes((CAT, 0.8), (CAT, 0.6), (COW, 0.55), (COW, 0.4), (DOG, 0.3), (DOG, 0.1))
    assert _told(rule.reported(boxes)) == [(CAT, 0.8), (COW, 0.55), (DOG, 0.3)]
    assert rule.least == 0.2
    assert rule.wanted(boxes) is boxes


def test_a_box_of_exactly_that_confidence_is_reported() -> None:
    """As it is without thresholds of classes, although confidences have fewer digits than thresholds."""
    boxes = _boxes((CAT, 0.7), (DOG, 0.5))
    assert ReportFilter(0.5, {CAT: 0.7}).reported(boxes) is boxes


def test_classes_that_nobody_wants_are_left_out() -> None:
    """However sure."""
    rule = ReportFilter(0.5, classes=frozenset({DOG}))
    boxes = _boxes((CAT, 0.9), (DOG, 0.6), (DOG, 0.4))
    assert _told(rule.wanted(boxes)) == [(DOG, 0.6), (DOG, 0.4)]
    assert _told(rule.reported(boxes)) == [(DOG, 0.6)]


def test_a_classification_passes_as_it_is() -> None:
    """Its classes are no boxes."""
    answer = classification(0.3, 0.7)
    assert ReportFilter(0.5, classes=frozenset({1})).reported(answer) is answer


def test_a_track_of_a_class_that_a_reload_made_unwanted_is_not_shown() -> None:
    """The tracker knows it still, and so did the cloud."""
    marks = tuple(TrackMark(number, SeenBy.CLOUD, 0.0) for number in (1, 2))
    shown = Shown(_boxes((CAT, 0.9), (DOG, 0.9)), tracks=marks)
    rest = ReportFilter(0.5, classes=frozenset({DOG})).shown(shown)
    assert (_told(rest.prediction), rest.tracks) == ([(DOG, 0.9)], marks[1:])


@pytest.mark.parametrize("by", list(SeenBy))
def test_a_track_that_only_the_edge_has_seen_has_to_reach_the_confidence_of_its_class(by: SeenBy) -> None:
    """One that the cloud has confirmed is shown; boxes and tracks stay side by side."""
    marks = tuple(TrackMark(number, one, 0.0) for number, one in enumerate((SeenBy.CLOUD, by, by), 1))
    shown = Shown(_boxes((CAT, 0.6), (CAT, 0.55), (DOG, 0.5)), tracks=marks, ended=(9,))
    left = ReportFilter(0.5, {CAT: 0.7}).shown(shown)
    assert left.tracks is not None
    expected = [1, 3] if by is SeenBy.EDGE else [1, 2, 3]
    assert [mark.track_id for mark in left.tracks] == expected
    assert len(left.prediction.boxes or ()) == len(expected)
    assert left.ended == (9,)


@pytest.mark.parametrize(
    ("calibrated", "usual", "left"),
    [
        (False, 0.5, [0.9, 0.6, 0.1]),
        (True, None, [0.9]),
        (True, 0.5, [0.9]),
    ],
)
def test_thresholds_hold_for_answers_where_both_sides_mean_the_same(
    tmp_path: Path, calibrated: bool, usual: float | None, left: list[float]
) -> None:
    """That of a class as the usual one; else the cloud's boxes are reported as they come."""
    folder = centre_detector(tmp_path)
    if calibrated:
        write_calibration(folder, Calibration(offset=0.0, scale=1.0), 0.3)
    model = {"folder": str(folder), "report_threshold": usual, "class_thresholds": {0: 0.7}}
    config = msgspec.convert({"camera": {"source": "0"}, "model": model}, EdgeConfig)
    boxes = _boxes((CAT, 0.9), (CAT, 0.6), (CAT, 0.1))
    reported = reported_of_answers(config, open_model(config.model))(boxes)
    assert isinstance(reported, Detections)
    assert [round(float(sure), 2) for sure in reported.confidence] == left
