"""The split benchmark's own arithmetic."""

import numpy as np
import pytest

from benchmarks.split.latency import AUTO, EDGE_ONLY, Latency, judge_choice
from benchmarks.split.rates import RatePoint, accuracy_at, bytes_at
from benchmarks.split.split_benchmark import halves
from spillover.lab.data.labelled import ClassLabels, LabelledSet
from tests.support.splitting import coloured_pictures

CURVE = (RatePoint("a", 100, 0.5), RatePoint("b", 200, 0.8), RatePoint("c", 400, 0.7))


def _labelled(count):
    pictures = tuple(coloured_pictures(count))
    return LabelledSet("colours", pictures, ClassLabels(np.arange(count)))


def test_calibration_and_evaluation_share_no_picture():
    """And labels stay with their pictures."""
    data = _labelled(40)
    first, second = halves(data, 10, 20)
    names = [{picture.name for picture in half.pictures} for half in (first, second)]
    assert not names[0] & names[1]
    assert (len(first.pictures), len(second.pictures)) == (10, 20)
    for half in (first, second):
        assert [f"colour {label}" for label in half.truth.class_id] == [p.name for p in half.pictures]


def test_a_curve_is_read_both_ways():
    """Fewest bytes for an accuracy, best accuracy for bytes; None where there is none."""
    assert bytes_at(CURVE, 0.65) == 200
    assert bytes_at(CURVE, 0.9) is None
    assert accuracy_at(CURVE, 1000) == 0.8
    assert accuracy_at(CURVE, 50) is None


def test_the_choice_is_compared_with_the_best_fixed_form():
    """By medians; the edge alone is no form, and the interval holds the ratio."""
    random = np.random.default_rng(0)

    def latency(seconds):
        return Latency(tuple(seconds * random.uniform(0.9, 1.1, 60)), None, 1000)

    latencies = {EDGE_ONLY: latency(0.01), "jpeg": latency(0.3), "cut": latency(0.1), AUTO: latency(0.105)}
    choice = judge_choice(latencies)
    assert choice.best == "cut"
    assert choice.low <= choice.ratio <= choice.high
    assert choice.ratio == pytest.approx(1.05, abs=0.04)
