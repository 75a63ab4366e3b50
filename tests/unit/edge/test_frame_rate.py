"""Which pictures become frames: a share of them, and as many as the scene asks for."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spillover.common.types import Image
from spillover.edge.camera.frame_rate import HALF_LIFE_S, SCENE, FrameRate, Range, Seen, watch

WITHIN = Range(2.0, 30.0)
PERIOD_S = 1 / 30
RNG = np.random.default_rng(0)
STREET = RNG.integers(60, 120, (90, 160, 3), np.uint8).repeat(3, 0).repeat(3, 1)


def street(left: int | None = None, side: int = 60) -> Image:
    """A picture of 480x270; something bright stands `left` of it."""
    picture = STREET.copy()
    if left is not None:
        picture[100 : 100 + side, left : left + side] = 250
    return picture


def watched(seen: Seen | None, pictures: list[Image], begin_s: float = 0.0) -> list[Seen]:
    """The scene after each picture, 30 a second."""
    found = []
    for number, picture in enumerate(pictures):
        seen = watch(seen, picture, begin_s + number * PERIOD_S, WITHIN)
        found.append(seen)
    return found


def rate_of(pictures: list[Image]) -> float:
    """What the scene asks for at the end of them, after a second in which the first one stood still."""
    return watched(watched(None, [pictures[0]] * 30)[-1], pictures, 1.0)[-1].rate


def taken_of(rate: FrameRate, pictures: list[Image], begin_s: float = 0.0) -> list[int]:
    """The numbers of the pictures that become frames."""
    return [
        number
        for number, picture in enumerate(pictures)
        if not rate.passed_over(picture, begin_s + number * PERIOD_S)
    ]


@given(st.floats(0, 1), st.integers(1, 300))
def test_a_share_is_kept_and_evenly_spread(share: float, count: int) -> None:
    """Of any number of pictures in a row the share is taken, but for less than one frame."""
    rate = FrameRate()
    rate.slow_down(share, "heat")
    taken = [not rate.passed_over(STREET, 0.0) for _ in range(count)]
    for start in (0, count // 2):
        assert abs(sum(taken[start:]) - share * (count - start)) < 1 + 1e-6


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_what_is_no_share_is_refused(share: float) -> None:
    """A caller's mistake is named at once, and what was in force stays."""
    rate = FrameRate()
    with pytest.raises(ValueError, match="from 0 to 1"):
        rate.slow_down(share, "heat")
    assert not rate.passed_over(STREET, 0.0)


def test_a_still_scene_has_the_lowest_rate_and_what_comes_is_looked_at_at_once() -> None:
    """Two frames a second; the picture in which something comes is one, and faster things give more."""
    rate = FrameRate(WITHIN)
    first = taken_of(rate, [street()] * 30)
    assert first[:9] == list(range(9))  # until it is known what moves
    still = taken_of(rate, [street()] * 300, 1.0)
    assert {after - before for before, after in pairwise(still)} <= {14, 15, 16}
    assert taken_of(rate, [street(10)], 11.0) == [0]
    slow, fast = (rate_of([street(n * step) for n in range(30)]) for step in (2, 8))
    assert WITHIN.least < slow < fast


def test_the_size_of_what_moves_matters_little() -> None:
    """Something that covers a quarter of the area, as fast for its size, asks for more than half as many."""
    small, large = (rate_of([street(n * side // 12, side) for n in range(20)]) for side in (40, 80))
    assert large / 2 < small < 1.2 * large


def test_the_rate_comes_down_with_its_half_life() -> None:
    """Halfway to the lowest in three seconds, over pictures that come at any distance."""
    moving = watched(watched(None, [street()] * 30)[-1], [street(x) for x in range(0, 240, 8)], 1.0)[-1]
    now = moving
    for step in range(1, 7):
        now = watch(now, street(232), moving.at_s + HALF_LIFE_S * step / 6, WITHIN)
    assert now.rate - WITHIN.least == pytest.approx((moving.rate - WITHIN.least) / 2, rel=0.01)


def test_another_scene_is_one_frame_and_no_rate() -> None:
    """A cut, or a light that goes on, is looked at at once and raises nothing for later."""
    rate = FrameRate(WITHIN)
    taken_of(rate, [street()] * 50)
    taken = taken_of(rate, [255 - street()] * 40, 50 * PERIOD_S)
    assert taken[0] == 0
    assert len(taken) <= 4


def test_pictures_that_come_in_bursts_are_as_those_that_come_evenly() -> None:
    """Five at once each sixth of a second, as from a network: about the same rate."""
    even = [street(x) for x in range(0, 200, 4)]
    rates = []
    for burst in (1, 5):
        seen: Seen | None = None
        for number, picture in enumerate([even[0]] * 30 + even):
            seen = watch(seen, picture, (number // burst) * burst * PERIOD_S + number * 1e-4, WITHIN)
        assert seen is not None
        rates.append(seen.rate)
    assert rates[1] == pytest.approx(rates[0], rel=0.5)


def test_noise_is_no_motion() -> None:
    """Of a sensor in the dark: 6 grey levels of noise leave the lowest rate."""
    noisy = [np.clip(STREET + RNG.normal(0, 6, STREET.shape), 0, 255).astype(np.uint8) for _ in range(30)]
    assert max(seen.rate for seen in watched(None, noisy)) < 1.5 * WITHIN.least


def test_the_lowest_of_scene_and_ladder_counts_and_is_named() -> None:
    """A share below what the scene asks for takes its place, and one above it changes nothing."""
    slowed, free = FrameRate(WITHIN), FrameRate(WITHIN)
    for rate in (slowed, free):
        taken_of(rate, [street()] * 30)
    slowed.slow_down(0.1, "heat")
    moving = [street(x) for x in range(0, 400, 8)]
    reasons = [slowed.passed_over(picture, 1 + n * PERIOD_S) for n, picture in enumerate(moving)]
    assert reasons.count("") == pytest.approx(len(moving) * 0.1, abs=1)
    assert reasons.count("heat") > reasons.count(SCENE)
    free.slow_down(0.99, "heat")
    assert {free.passed_over(street(), 5 + n * PERIOD_S) for n in range(60)} == {"", SCENE}


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 255), st.floats(-1, 20)), min_size=1, max_size=12),
    st.floats(0.5, 10),
    st.floats(0, 30),
)
def test_any_pictures_at_any_times_keep_the_rate_within_its_bounds(
    pictures: list[tuple[int, float]], least: float, more: float
) -> None:
    """Clocks that stand still or go back, long silences, other light: a rate within min and max."""
    within = Range(least, least + more)
    rate, now_s = FrameRate(within), 0.0
    for level, passed_s in pictures:
        now_s += passed_s
        rate.passed_over(np.full((9, 16, 3), level, np.uint8), now_s)
        assert rate.per_s is not None
        assert within.least <= rate.per_s <= within.most
    rate.reconfigure(None)
    assert rate.per_s is None
