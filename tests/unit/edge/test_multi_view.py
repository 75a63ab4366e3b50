"""The second look: a classifier's at the middle where in doubt, a detector's at parts; merged."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillover.common.model.pictures import StepTimings
from spillover.common.model.session import Model
from spillover.common.model.session_config import SessionConfig
from spillover.common.tasks.classification import CLASSIFICATION
from spillover.common.tasks.detection import DETECTION
from spillover.common.types import Classification, Detections, Image, ModelId, Prediction
from spillover.edge.config import MultiViewConfig
from spillover.edge.inference.multi_view import (
    averaged,
    build_multi_view,
    centre,
    end_squares,
    fused,
    middle,
    uncut,
)
from tests.unit.lab.test_evaluate import constant_model


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """A classifier that leans to class 0 by the first pixel of what it sees."""
    return Model.load(constant_model(tmp_path / "m", [0.0, 1.0]), SessionConfig(threads=1))


def test_a_sure_answer_is_given_at_once(model: Model) -> None:
    """At or above `below` the first look is the answer."""
    image = np.zeros((20, 20, 3), np.uint8)
    first = model.predict(image)[0]
    again = build_multi_view(MultiViewConfig(below=0.7, zoom=0.5), model, CLASSIFICATION).predict(image)[0]
    assert isinstance(first, Classification)
    assert isinstance(again, Classification)
    np.testing.assert_array_equal(first.probability, again.probability)


def test_a_doubtful_answer_is_the_mean_of_two_looks(model: Model) -> None:
    """The middle is bright, so the second look says otherwise; the answer lies between."""
    image = np.zeros((20, 20, 3), np.uint8)
    image[5:15, 5:15] = 255
    look = build_multi_view(MultiViewConfig(below=0.9, zoom=0.5), model, CLASSIFICATION)
    first, second = model.predict(image)[0], model.predict(image[5:15, 5:15])[0]
    answer = look.predict(image)[0]
    assert isinstance(first, Classification)
    assert isinstance(second, Classification)
    assert isinstance(answer, Classification)
    assert first.class_id[0] == 1
    assert second.class_id[0] == answer.class_id[0] == 0
    assert answer.top_confidence == pytest.approx((second.probability[0] + first.probability[1]) / 2)
    assert look.model_id == model.model_id


@given(st.integers(1, 300), st.integers(1, 300), st.floats(0.01, 1))
def test_the_middle_is_in_the_middle(height: int, width: int, zoom: float) -> None:
    """Never empty, and its margins differ by at most a pixel."""
    rows, columns = np.mgrid[:height, :width]
    cut = centre(
        np.stack([rows % 256, columns % 256, rows // 256 + 2 * (columns // 256)], 2).astype(np.uint8), zoom
    )
    assert cut.size
    assert cut.shape[0] == max(1, round(height * zoom))
    assert cut.shape[1] == max(1, round(width * zoom))


@given(st.integers(2, 20), st.integers(0, 99))
def test_the_mean_is_a_distribution_in_order(classes: int, seed: int) -> None:
    """Sums to one, best first."""
    random = np.random.default_rng(seed)

    def look() -> Classification:
        p = np.sort(random.dirichlet(np.ones(classes)))[::-1].astype(np.float32)
        return Classification(random.permutation(classes).astype(np.int32), p)

    mean = averaged(look(), look())
    assert mean.probability.sum() == pytest.approx(1, abs=1e-5)
    assert (np.diff(mean.probability) <= 0).all()


class BrightSpots:
    """A detector that boxes each bright row or column range it is shown: one box a picture."""

    model_id = ModelId("bright", "1")

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def predict(self, image: Image) -> tuple[Prediction, StepTimings]:
        """The box around all pixels above 200; surer the larger the share of the picture it fills."""
        self.shapes.append(image.shape[:2])
        rows, columns = np.nonzero(image[:, :, 0] > 200)
        timings = StepTimings(0.25, 0.5, 0.125)
        if not rows.size:
            empty = np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32)
            return Detections(*empty), timings
        xyxy = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]], np.float32)
        share = rows.size / image[:, :, 0].size
        return Detections(xyxy, np.array([share], np.float32), np.zeros(1, np.int32)), timings


def test_a_detector_looks_at_parts_and_merges() -> None:
    """One object, seen twice: one box, in pixels of the frame; both that could see it speak of it."""
    image = np.zeros((100, 200, 3), np.uint8)
    image[40:60, 150:180] = 255
    model = BrightSpots()
    found, timings = build_multi_view(MultiViewConfig(), model, DETECTION).predict(image)
    assert isinstance(found, Detections)
    assert model.shapes == [(100, 200), (100, 100), (100, 100), (70, 70)]
    np.testing.assert_allclose(found.xyxy, [[150, 40, 180, 60]])
    whole, end = 600 / 20_000, 600 / 10_000
    assert found.confidence[0] == pytest.approx((end + (whole + end) / 2) / 2)
    assert timings == StepTimings(1.0, 2.0, 0.5)


def test_a_square_picture_has_no_ends() -> None:
    """They are the whole; the middle alone is looked at again."""
    model = BrightSpots()
    build_multi_view(MultiViewConfig(), model, DETECTION).predict(np.zeros((100, 105, 3), np.uint8))
    assert model.shapes == [(100, 105), (70, 70)]


def test_a_look_that_sees_nothing_there_speaks_against_a_box() -> None:
    """The same box is less sure where a second look at the place has not found it; elsewhere it is not."""
    whole, part = (0, 0, 200, 100), (100, 0, 200, 100)
    nothing = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))
    boxes = np.array([[120, 20, 150, 50], [20, 20, 50, 50]], np.float32)
    found = Detections(boxes, np.array([0.8, 0.8], np.float32), np.zeros(2, np.int32))
    both = fused([found, nothing], [whole, part], 200, 100)
    np.testing.assert_array_equal(both.xyxy, boxes[[1, 0]])
    np.testing.assert_allclose(both.confidence, [0.8, 0.6])


@given(st.integers(0, 60), st.integers(0, 99))
def test_fusing_keeps_what_detections_promise(count: int, seed: int) -> None:
    """By descending confidence within 0..1, places within the boxes given, no class made up."""
    random = np.random.default_rng(seed)
    corner = random.uniform(0, 80, (count, 2))
    found = Detections(
        np.concatenate([corner, corner + random.uniform(1, 20, (count, 2))], axis=1).astype(np.float32),
        random.uniform(0, 1, count).astype(np.float32),
        random.integers(0, 2, count).astype(np.int32),
    )
    both = fused([found, found], [(0, 0, 100, 100), middle(100, 100)], 100, 100)
    assert (np.diff(both.confidence) <= 0).all()
    assert ((both.confidence >= 0) & (both.confidence <= 1)).all()
    assert len(both) <= count
    assert set(both.class_id) <= set(found.class_id)
    if len(both):
        assert (both.xyxy[:, :2] >= corner.min(axis=0) - 1e-3).all()


@given(st.integers(1, 3000), st.integers(1, 3000))
def test_the_middle_square_is_within_the_frame(width: int, height: int) -> None:
    """Never empty, never beyond."""
    left, top, right, bottom = middle(width, height)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert right - left == bottom - top


def test_what_a_part_cuts_is_left_to_the_whole() -> None:
    """A box at an inner border is half an object; one at the frame's own border is all there is."""
    found = Detections(
        np.array([[0, 10, 30, 30], [80, 10, 100, 30], [40, 10, 60, 30]], np.float32),
        np.array([0.9, 0.8, 0.7], np.float32),
        np.zeros(3, np.int32),
    )
    left = uncut(found, (0, 0, 100, 100), 200, 100)
    np.testing.assert_array_equal(left.xyxy, found.xyxy[[0, 2]])
    right = uncut(found, (100, 0, 200, 100), 200, 100)
    np.testing.assert_array_equal(right.xyxy, found.xyxy[[1, 2]] + [100, 0, 100, 0])


@given(st.integers(1, 3000), st.integers(1, 3000))
def test_the_ends_are_squares_within_the_frame(width: int, height: int) -> None:
    """Both as high as the shorter side, the first at the origin, the last at the far corner."""
    squares = list(end_squares(width, height))
    assert len(squares) in {0, 2}
    for left, top, right, bottom in squares:
        assert right - left == bottom - top == min(width, height)
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
