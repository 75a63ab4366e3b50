"""Scores: higher is more to gain."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillover.common.tasks.classification import CLASSIFICATION
from spillover.common.types import Classification
from spillover.edge.policy.scores import SCORERS, ScoreSettings
from tests.support.edge_values import classification, detections

SETTINGS = ScoreSettings(report_threshold=0.5, band=0.2)


@pytest.mark.parametrize(
    ("name", "expected"),
    # entropy: -(0.6 ln 0.6 + 0.3 ln 0.3 + 0.1 ln 0.1) / ln 3
    [("max_softmax", 0.4), ("margin", 0.7), ("entropy", 0.817346)],
)
def test_classification_scores(name: str, expected: float) -> None:
    """Each score is its formula, on one picture worked out by hand."""
    assert SCORERS[name](classification(0.6, 0.3, 0.1)) == pytest.approx(expected, abs=1e-6)


@given(st.lists(st.floats(0.001, 1), min_size=2, max_size=50))
def test_classification_scores_are_in_range(weights: list[float]) -> None:
    """Every classification score lies in 0..1 whatever the probabilities."""
    probability = np.sort(np.array(weights) / sum(weights))[::-1].astype(np.float32)
    prediction = Classification(np.arange(len(weights), dtype=np.int32), probability)
    for scorer in SCORERS.values():
        if scorer.task == CLASSIFICATION.name:
            score = scorer(prediction)
            assert score is not None
            assert -1e-6 <= score <= 1 + 1e-6


@pytest.mark.parametrize("name", ["max_softmax", "margin", "entropy"])
def test_certainty_scores_zero(name: str) -> None:
    """A picture the edge is sure of has nothing to gain, with any number of classes."""
    assert SCORERS[name](classification(1.0, 0.0, 0.0)) == pytest.approx(0)
    assert SCORERS[name](classification(1.0)) == pytest.approx(0)


def test_mean_score_sees_reported_boxes_alone() -> None:
    """Boxes below the report threshold do not drag the mean down."""
    assert SCORERS["mean_score"](detections(0.9, 0.7, 0.1), SETTINGS) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("confidence", "score"),
    [((0.9, 0.6, 0.4, 0.2), 2 / 3), ((0.9,), 0), ((0.4,), 0.5), ((0.3, 0.7), 2 / 3), ((0.5,) * 19, 0.95)],
)
def test_near_threshold_grows_with_the_doubtful_boxes(confidence: tuple[float, ...], score: float) -> None:
    """Boxes within the band count, on both sides of the threshold; sure ones and faint ones do not. 0..1."""
    settings = ScoreSettings(report_threshold=0.5, band=0.2001)
    assert SCORERS["near_threshold"](detections(*confidence), settings) == pytest.approx(score)


@pytest.mark.parametrize("name", ["mean_score", "near_threshold"])
@pytest.mark.parametrize("confidence", [(), (0.1, 0.2)])
def test_nothing_seen_is_no_score(name: str, confidence: tuple[float, ...]) -> None:
    """Without a box to judge by there is no score: an empty scene is not a confident one."""
    assert SCORERS[name](detections(*confidence), SETTINGS) is None
