"""What bounds calls: the breaker with its probes, the cap on calls in flight, the budget of retries."""

import threading

from hypothesis import given
from hypothesis import strategies as st

from spillover.edge.link.state import BreakerPhase
from spillover.edge.uplink.limits import Breaker, BreakerRule, InFlightLimit, RetryBudget

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
    probing = breaker.started(breaker.retry_at_s)
    assert probing.phase is BreakerPhase.HALF_OPEN
    assert not probing.allows(1e9)


def test_a_failed_probe_doubles_the_pause_up_to_its_limit():
    """Pauses grow and stay bounded, so that sending resumes soon after the link heals."""
    breaker, pauses = _opened(), []
    for _ in range(6):
        pauses.append(breaker.pause_s)
        now_s = breaker.retry_at_s
        breaker = breaker.started(now_s).failed(now_s, 0.999, probe=True)
    assert pauses == [0.5, 1.0, 2.0, 4.0, 4.0, 4.0]


def test_a_straggler_does_not_end_the_probe():
    """A call from before the pause that fails late changes nothing."""
    probing = _opened().started(10.0)
    assert probing.failed(11.0, 0.5, probe=False) == probing


def test_a_probe_that_tells_nothing_is_repeated_after_the_same_pause():
    """A server that is merely full says nothing of the link: the way is neither open nor worse."""
    again = _opened().started(10.0).undecided(10.0, 0.0, probe=True)
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
            after = breaker.started(now_s)
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
    budget, calls, retries = RetryBudget(), 0, 0
    for retry in steps:
        if retry:
            retries += budget.take(1.0, 0.1)
        else:
            budget.count_call()
            calls += 1
        assert retries <= 0.2 * calls


def test_no_retry_where_it_would_be_late():
    """When an answer usually takes longer than what is left, trying again is waste."""
    budget = RetryBudget()
    for _ in range(10):
        budget.count_call()
    assert not budget.take(time_left_s=0.05, expected_s=0.08)
    assert budget.take(time_left_s=0.1, expected_s=0.08)


class Share(float):
    """A share in whose first multiplication something else happens."""

    meanwhile: threading.Thread | None = None

    def __mul__(self, other: float) -> float:
        """Let a thread run until it ends, or waits for a lock."""
        thread, self.meanwhile = self.meanwhile, None
        if thread:
            thread.start()
            thread.join(0.2)
        return float(self) * other


def test_two_threads_cannot_take_the_same_retry() -> None:
    """One retry is left, and a second thread asks while the first one is being answered: one gets it."""
    share, taken = Share(0.2), []
    budget = RetryBudget(share)
    for _ in range(5):
        budget.count_call()
    second = threading.Thread(target=lambda: taken.append(budget.take(1.0, 0.1)))
    share.meanwhile = second
    taken.append(budget.take(1.0, 0.1))
    second.join(60)
    assert sorted(taken) == [False, True]


def test_the_in_flight_limit_shrinks_under_load_and_grows_back() -> None:
    """Latency that triples halves the limit and more; when it falls, the limit rises."""
    limit = InFlightLimit(initial=16)
    for _ in range(100):
        limit.answered(0.05)
    steady = limit.limit
    for _ in range(40):
        limit.answered(0.5)
    loaded = limit.limit
    for _ in range(100):
        limit.answered(0.05)
    assert loaded < steady / 2
    assert limit.limit > loaded


@given(st.lists(st.floats(0, 100), max_size=100))
def test_the_in_flight_limit_stays_in_its_bounds(latencies: list[float]) -> None:
    """Never below one, never above the maximum."""
    limit = InFlightLimit(maximum=32)
    for latency_s in latencies:
        assert 1 <= limit.answered(latency_s) <= 32
