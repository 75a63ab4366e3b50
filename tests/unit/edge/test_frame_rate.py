"""Which pictures become frames."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillover.edge.camera.frame_rate import FrameRate


@given(st.floats(0, 1), st.integers(1, 300))
def test_a_share_is_kept_and_evenly_spread(share: float, count: int) -> None:
    """Of any number of pictures in a row the share is taken, but for less than one frame."""
    rate = FrameRate()
    rate.slow_down(share, "heat")
    taken = [not rate.passed_over() for _ in range(count)]
    for start in (0, count // 2):
        assert abs(sum(taken[start:]) - share * (count - start)) < 1 + 1e-6


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_what_is_no_share_is_refused(share: float) -> None:
    """A caller's mistake is named at once, and what was in force stays."""
    rate = FrameRate()
    with pytest.raises(ValueError, match="from 0 to 1"):
        rate.slow_down(share, "heat")
    assert not rate.passed_over()
