"""The rate of what happens now and then, on a clock of its own."""

import pytest

from spillover.edge.runtime.rates import Rate


class Clock:
    """Monotonic seconds that a test moves."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        """The current second."""
        return self.now_s


def marked(period_s: float, count: int) -> tuple[Rate, Clock]:
    """A rate after `count` marks, `period_s` apart; the clock is at the last."""
    clock = Clock()
    rate = Rate(clock)
    for index in range(count):
        clock.now_s += period_s if index else 0.0
        rate.mark()
    return rate, clock


@pytest.mark.parametrize("count", [0, 1])
def test_once_is_no_rate(count):
    """It takes two to have an interval."""
    assert marked(1.0, count)[0].per_s() is None


@pytest.mark.parametrize("per_s", [0.05, 1.0, 25.0, 200.0])
def test_even_marks_give_their_rate(per_s):
    """Seldom or often, also beyond what is kept."""
    rate, _ = marked(1 / per_s, 2000)
    assert rate.per_s() == pytest.approx(per_s, rel=1e-6)


def test_what_is_long_ago_does_not_count():
    """A minute at 25 a second, then ten seconds at 5."""
    rate, clock = marked(0.04, 1500)
    for _ in range(51):
        clock.now_s += 0.2
        rate.mark()
    assert rate.per_s() == pytest.approx(5.0, rel=0.03)


def test_a_silence_lowers_the_rate_towards_nothing():
    """A camera that is gone has no 25 frames a second."""
    rate, clock = marked(0.04, 500)
    clock.now_s += 5
    assert rate.per_s() < 20
    clock.now_s += 1000
    assert rate.per_s() < 0.01
