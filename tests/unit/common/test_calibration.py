"""Calibrated confidences: another scale, the same order, and thresholds that mean the same boxes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillover.common.model.calibration import Calibration

calibrations = st.builds(Calibration, offset=st.floats(-4, 4), scale=st.floats(0.2, 4))


@given(calibrations, st.lists(st.floats(0, 1, width=32), max_size=30))
def test_the_order_of_boxes_stays(calibration: Calibration, confidence: list[float]) -> None:
    """Falling confidences still fall, within 0..1, and stay float32."""
    falling = np.array(sorted(confidence, reverse=True), np.float32)
    calibrated = calibration.apply(falling)
    assert calibrated.dtype == np.float32
    assert (np.diff(calibrated) <= 0).all()
    assert ((calibrated >= 0) & (calibrated <= 1)).all()


@given(calibrations, st.floats(0.01, 0.99))
def test_a_threshold_leads_back(calibration: Calibration, confidence: float) -> None:
    """`undo` takes a calibrated confidence to the network's own."""
    told = float(calibration.apply(np.array([confidence], np.float32))[0])
    if 1e-3 < told < 0.999:
        assert calibration.undo(told) == pytest.approx(confidence, abs=1e-3)


def test_log_odds_are_moved_and_stretched() -> None:
    """Even odds at scale 2 and offset log 3 become odds of 3."""
    even = np.array([0.5], np.float32)
    assert Calibration(offset=float(np.log(3)), scale=2.0).apply(even)[0] == pytest.approx(0.75)


def test_the_ends_of_the_scale_stay() -> None:
    """A threshold of 0 keeps every box, one of 1 none, on either scale."""
    calibration = Calibration(offset=-2.0, scale=1.5)
    assert calibration.undo(0.0) == 0.0
    assert calibration.undo(1.0) == 1.0
