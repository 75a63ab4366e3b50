"""The second look: only where in doubt, at the middle of the picture, and the mean of both is the answer."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.model.session import Model
from common.model.session_config import SessionConfig
from common.types import Classification
from edge.second_look import SecondLook, averaged, centre
from tests.unit.lab.test_evaluate import constant_model


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """A classifier that leans to class 0 by the first pixel of what it sees."""
    return Model.load(constant_model(tmp_path / "m", [0.0, 1.0]), SessionConfig(threads=1))


def test_a_sure_answer_is_given_at_once(model: Model) -> None:
    """At or above `below` the first look is the answer."""
    image = np.zeros((20, 20, 3), np.uint8)
    first = model.predict(image)[0]
    again = SecondLook(model, below=0.7, zoom=0.5).predict(image)[0]
    assert isinstance(first, Classification)
    assert isinstance(again, Classification)
    np.testing.assert_array_equal(first.probability, again.probability)


def test_a_doubtful_answer_is_the_mean_of_two_looks(model: Model) -> None:
    """The middle is bright, so the second look says otherwise; the answer lies between."""
    image = np.zeros((20, 20, 3), np.uint8)
    image[5:15, 5:15] = 255
    look = SecondLook(model, below=0.9, zoom=0.5)
    first, second = model.predict(image)[0], model.predict(image[5:15, 5:15])[0]
    answer = look.predict(image)[0]
    assert isinstance(first, Classification)
    assert isinstance(second, Classification)
    assert isinstance(answer, Classification)
    assert first.class_id[0] == 1
    assert second.class_id[0] == answer.class_id[0] == 0
    assert answer.confidence == pytest.approx((second.probability[0] + first.probability[1]) / 2)
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
