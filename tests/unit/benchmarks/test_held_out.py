"""Held-out halves: what is fitted on one half is judged on the other."""

import numpy as np
import pytest

from benchmarks.policy.held_out import at, held_out
from spillover.common.tasks.classification import CLASSIFICATION
from spillover.common.tasks.detection import DETECTION
from spillover.lab.data.labelled import ClassLabels
from spillover.lab.pairs.fit.pair import calibrated
from spillover.lab.pairs.fit.targets import taught_by
from spillover.lab.terminal import Silent
from tests.support.pairs import classifications, pair, too_bold


def test_halves_are_judged_by_what_the_other_half_taught() -> None:
    """What can be learnt is learnt from either half; five splits, both ways."""
    edge, cloud, truth = classifications(300)
    shares = held_out(pair(CLASSIFICATION.name, edge, cloud, ClassLabels(truth)), Silent())
    assert shares["expected_gain"].shape == (10, 8)
    assert shares["expected_gain"][:, at(0.75)] == pytest.approx(1.0)
    assert shares["expected_gain"][:, at(0.5)].mean() > shares["max_softmax"][:, at(0.5)].mean() + 0.15


def test_a_half_is_calibrated_by_the_other() -> None:
    """Detectors too: the calibration of the half that is judged comes from pictures it does not hold."""
    edge, cloud = too_bold(20)
    truth = taught_by(DETECTION.name, cloud, 3)
    whole = calibrated(pair(DETECTION.name, edge, cloud, truth))
    shares = held_out(whole, Silent())
    assert set(shares) == {"mean_score", "near_threshold", "expected_gain"}
    assert np.isfinite(shares["expected_gain"]).all()
