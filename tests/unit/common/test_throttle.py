"""What strangers can cause fills no log: one line a cause and interval, and none is lost from the count."""

from hypothesis import given
from hypothesis import strategies as st

from spillover.common.log import Throttle

INTERVAL_S = 1.0
SECONDS = st.integers(0, 256).map(lambda number: number / 128)
"""Binary fractions, whose sums and differences are exact: 1.99999 - 0.99999 is less than 1."""
LINES = st.lists(st.tuples(SECONDS, st.integers(0, 40)), max_size=300)


class Clock:
    """Monotonic seconds that a test moves."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        """The current second."""
        return self.now_s


@given(LINES)
def test_at_most_one_line_of_a_cause_passes_in_an_interval(lines):
    """Whatever comes, in whatever order."""
    clock = Clock()
    throttle = Throttle(INTERVAL_S, clock)
    passed: dict[str, float] = {}
    for later_s, number in lines:
        clock.now_s += later_s
        cause = str(number)
        if throttle.passes(cause) is not None:
            assert clock.now_s - passed.get(cause, -INTERVAL_S) >= INTERVAL_S
            passed[cause] = clock.now_s


@given(st.lists(st.tuples(SECONDS, st.integers(0, 5), st.booleans()), max_size=200))
def test_lines_that_pass_and_lines_left_out_are_all_lines(lines):
    """Each either passes or is in a count that is told once: with the next line, or when time is over."""
    clock = Clock()
    throttle = Throttle(INTERVAL_S, clock)
    told = 0
    for later_s, number, looks in lines:
        clock.now_s += later_s
        if (left_out := throttle.passes(str(number))) is not None:
            told += 1 + left_out
        if looks:
            told += sum(count for _, count in throttle.overdue())
    clock.now_s += 2 * INTERVAL_S
    told += sum(count for _, count in throttle.overdue())
    assert told == len(lines)
    assert not throttle.leaves_out


def test_causes_beyond_the_bound_are_one_cause():
    """A stranger who makes up causes gets no further lines by it."""
    clock = Clock()
    throttle = Throttle(INTERVAL_S, clock)
    passed = [cause for cause in range(10_000) if throttle.passes(str(cause)) is not None]
    assert len(passed) == 65
    clock.now_s += INTERVAL_S
    assert throttle.overdue() == [("others", 10_000 - 65)]
