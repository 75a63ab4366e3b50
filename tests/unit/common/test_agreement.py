"""The one number that says how far two predictions agree."""

import numpy as np
import pytest

from spillover.common.tasks import agreement
from spillover.common.tasks.detection import pairwise_iou
from spillover.common.types import Classification, Detections


def _classes(*class_id: int) -> Classification:
    return Classification(
        np.array(class_id, np.int32), np.linspace(0.9, 0.1, len(class_id), dtype=np.float32)
    )


def _boxes(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int32))


def test_classifications_agree_by_their_best_class():
    """Only the first class counts."""
    assert agreement(_classes(3, 1), _classes(3, 2)) == 1.0
    assert agreement(_classes(1, 3), _classes(3, 1)) == 0.0


def test_two_empty_scenes_agree():
    """No boxes on either side is full agreement, no boxes on one side is none."""
    one = _boxes((0, 0, 10, 10, 0.9, 0))
    assert agreement(_boxes(), _boxes()) == 1.0
    assert agreement(_boxes(), one) == agreement(one, _boxes()) == 0.0


def test_boxes_match_one_to_one_within_a_class():
    """A second box on the same object is a false one, and a box of another class never matches."""
    reference = _boxes((0, 0, 10, 10, 0.9, 0), (20, 20, 30, 30, 0.8, 1))
    doubled = _boxes((0, 0, 10, 10, 0.9, 0), (0, 0, 10, 9, 0.8, 0))
    assert agreement(reference, reference) == 1.0
    assert agreement(doubled, reference) == pytest.approx(2 * 1 / 4)
    assert agreement(_boxes((0, 0, 10, 10, 0.9, 5)), reference) == 0.0


def test_unsure_boxes_do_not_count():
    """Boxes below the confidence asked for are left out on both sides."""
    unsure = _boxes((0, 0, 10, 10, 0.1, 0))
    assert agreement(unsure, _boxes()) == 1.0


def test_different_tasks_cannot_be_compared():
    """A classification beside a detection is a mistake of the caller."""
    with pytest.raises(TypeError):
        agreement(_classes(1), _boxes())


def test_iou_of_known_boxes():
    """Half overlap of two equal squares is one third; boxes without area overlap nothing."""
    a = np.array([[0, 0, 2, 2], [1, 1, 1, 1]], np.float32)
    b = np.array([[1, 0, 3, 2]], np.float32)
    np.testing.assert_allclose(pairwise_iou(a, b), [[1 / 3], [0]], rtol=1e-6)
