"""The breaker: opens after five failures in a row, lets one probe through at a time, closes on success."""

from hypothesis import given
from hypothesis import strategies as st

from spillover.edge.link.state import BreakerPhase
from spillover.edge.uplink.breaker import Breaker, BreakerRule
from spillover.edge.uplink.retry import RetryBudget

_RULE = BreakerRule()


def _opened(at_s=0.0):
    breaker = Breaker()
    for _ in range(_RULE.failure_limit):
        breaker = breaker.failed(at_s, 0.5, probe=False)
    return breaker


def test_it_opens_on_the_fifth_failure_in_a_row_and_not_before():
    """Four failures and a success count for nothing; five in a row open it."""
    breaker = Breaker()
    for _ in range(3):
        for _ in range(4):
            breaker = breaker.failed(0.0, 0.0, probe=False)
        assert breaker.allows(0.0)
        breaker = breaker.succeeded()
    assert _opened().phase is BreakerPhase.OPEN


def test_one_probe_at_a_time():
    """After the pause exactly one call departs; no other until it has ended."""
    breaker = _opened()
    assert not breaker.allows(breaker.retry_at_s - 0.001)
    assert breaker.allows(breaker.retry_at_s)
    probing = breaker.departed(breaker.retry_at_s)
    assert probing.phase is BreakerPhase.HALF_OPEN
    assert not probing.allows(1e9)


def test_a_failed_probe_doubles_the_pause_up_to_its_limit():
    """Pauses grow and stay bounded, so that sending resumes soon after the link heals."""
    breaker, pauses = _opened(), []
    for _ in range(6):
        pauses.append(breaker.pause_s)
        now_s = breaker.retry_at_s
        breaker = breaker.departed(now_s).failed(now_s, 0.999, probe=True)
    assert pauses == [0.5, 1.0, 2.0, 4.0, 4.0, 4.0]


def test_a_straggler_does_not_end_the_probe():
    """A call from before the pause that fails late changes nothing."""
    probing = _opened().departed(10.0)
    assert probing.failed(11.0, 0.5, probe=False) == probing


def test_a_probe_that_tells_nothing_is_repeated_after_the_same_pause():
    """A server that is merely full says nothing of the link: the way is neither open nor worse."""
    again = _opened().departed(10.0).undecided(10.0, 0.0, probe=True)
    assert (again.phase, again.pause_s, again.retry_at_s) == (BreakerPhase.OPEN, 0.5, 10.25)


_steps = st.lists(
    st.tuples(
        st.sampled_from(["ask", "success", "failure", "late failure", "undecided"]),
        st.floats(0, 5),
        st.floats(0, 0.999),
    ),
    max_size=60,
)


@given(_steps)
def test_it_never_sticks_and_never_lets_two_probes_through(steps):
    """Whatever happens: at most one probe is out; when none is, a call may go within the longest pause."""
    breaker, now_s, probes = Breaker(), 0.0, 0
    for step, seconds, draw in steps:
        now_s += seconds
        if step == "ask" and breaker.allows(now_s):
            after = breaker.departed(now_s)
            probes += after.phase is BreakerPhase.HALF_OPEN and after != breaker
            breaker = after
        elif step == "success":
            breaker, probes = breaker.succeeded(), 0
        elif step == "failure":
            breaker = breaker.failed(now_s, draw, probe=probes > 0)
            probes = 0
        elif step == "late failure":
            breaker = breaker.failed(now_s, draw, probe=False)
        elif step == "undecided":
            breaker, probes = breaker.undecided(now_s, draw, probe=probes > 0), 0
        assert probes <= 1
        assert (breaker.phase is BreakerPhase.HALF_OPEN) == (probes == 1)
        assert probes or breaker.allows(now_s + _RULE.pause_max_s)


@given(st.lists(st.booleans(), max_size=300))
def test_retries_never_exceed_a_fifth_of_the_calls(steps):
    """At every moment, whatever the order: amplification is at most 1.2."""
    budget = RetryBudget()
    for retry in steps:
        if retry:
            budget.take(1.0, 0.1)
        else:
            budget.called()
        assert budget.amplification <= 1.2


def test_no_retry_where_it_would_be_late():
    """When an answer usually takes longer than what is left, trying again is waste."""
    budget = RetryBudget()
    for _ in range(10):
        budget.called()
    assert not budget.take(time_left_s=0.05, expected_s=0.08)
    assert budget.take(time_left_s=0.1, expected_s=0.08)
