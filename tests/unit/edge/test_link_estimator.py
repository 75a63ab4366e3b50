"""The link estimator: finds the link's figures, is careful, and recovers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spillover.edge.link.estimator import PRIOR, LinkEstimator, Upload

FAR_S = 60.0
"""A deadline that no call misses."""


class Line:
    """A link with one rate, its bytes one after the other, and an estimator that sees its calls."""

    def __init__(self, rtt_s: float, rate: float, jitter_s: float, seed: int = 0) -> None:
        self.rtt_s, self.rate, self.jitter_s = rtt_s, rate, jitter_s
        self.estimator = LinkEstimator()
        self.now_s = 0.0
        self._random = np.random.default_rng(seed)

    def call(
        self, size: float, server_s: float = 0.03, *, time_left_s: float = FAR_S
    ) -> tuple[Upload, float]:
        """One call after the one before has ended; with its time from departure to answer."""
        upload = self.estimator.departed(self.now_s, size, server_s, time_left_s)
        network_s = self.rtt_s + size / self.rate + float(self._random.exponential(self.jitter_s))
        self.now_s += network_s + server_s
        in_time = network_s + server_s <= time_left_s
        self.estimator.answered(upload, network_s, server_s, in_time=in_time)
        return upload, network_s + server_s

    def calls(self, count: int) -> None:
        """Calls of many sizes, with time between them."""
        for _ in range(count):
            self.call(float(self._random.uniform(5_000, 60_000)))
            self.now_s += 0.05

    def burst(self, sizes: list[float]) -> None:
        """Calls that depart together."""
        uploads = [self.estimator.departed(self.now_s, size, 0.0, FAR_S) for size in sizes]
        carried_s = np.cumsum(sizes) / self.rate + self.rtt_s
        for upload, network_s in zip(uploads, carried_s.tolist(), strict=True):
            self.estimator.answered(upload, network_s, 0.0, in_time=True)
        self.now_s += float(carried_s[-1])


@given(st.floats(0.005, 0.3), st.floats(2e4, 5e6))
@settings(max_examples=40, deadline=None)
def test_a_steady_links_latency_is_found(rtt_s: float, rate: float) -> None:
    """On a link without jitter the expected latency of any payload is right within a tenth."""
    line = Line(rtt_s, rate, 1e-6)
    line.calls(40)
    estimate = line.estimator.estimate(line.now_s)
    for size in (5_000, 60_000):
        true_s = rtt_s + size / rate + 0.03
        assert true_s * 0.95 <= estimate.latency_s(size, 0.0, 0.03) <= true_s * 1.15 + 0.02


@given(st.floats(0.001, 3), st.integers(100, 100_000))
@settings(deadline=None)
def test_calls_of_one_size_teach_what_that_size_costs(network_s: float, size: int) -> None:
    """With nothing to tell round trip from rate, the size that is sent is still predicted."""
    line = Line(network_s, 1e12, 0.0)
    for _ in range(30):
        line.call(size, 0.0)
    predicted_s = line.estimator.estimate(line.now_s).latency_s(size, 0.0, 0.0)
    assert predicted_s == pytest.approx(network_s, rel=0.1, abs=0.012)


@given(rtt_s=st.floats(0.01, 0.6), rate=st.floats(5e4, 1e7), size=st.floats(2e4, 1e5))
@settings(deadline=None)
def test_calls_behind_one_another_tell_rate_from_round_trip(rtt_s: float, rate: float, size: float) -> None:
    """Equally large calls that depart together are a rate's distance apart: both figures come out."""
    line = Line(rtt_s, rate, 0.0)
    for _ in range(12):
        line.burst([size] * 4)
    estimate = line.estimator.estimate(line.now_s)
    assert estimate.rate_bytes_per_s == pytest.approx(rate, rel=0.15)
    assert estimate.rtt_s == pytest.approx(rtt_s, rel=0.2, abs=0.1 * size / rate)


@pytest.mark.parametrize("jitter_s", [0.005, 0.03, 0.1])
def test_what_is_predicted_in_time_is_in_time(jitter_s: float) -> None:
    """At least 95 of 100 calls that are sent since they look in time are, whatever jitter and deadlines."""
    line, sent, in_time = Line(0.04, 1e6, jitter_s, seed=1), 0, 0
    deadlines = np.random.default_rng(2)
    line.calls(60)
    for _ in range(3000):
        time_left_s = 0.1 + float(deadlines.exponential(3 * jitter_s))
        if line.estimator.estimate(line.now_s).latency_s(30_000, 0.0, 0.03) <= time_left_s:
            _, took_s = line.call(30_000, time_left_s=time_left_s)
            sent += 1
            in_time += took_s <= time_left_s
    assert sent > 400
    assert in_time >= 0.95 * sent


def test_a_link_that_slows_is_believed_at_once_and_probes_become_rarer() -> None:
    """One late answer raises the expected latency; while answers are late, each probe waits longer."""
    line = Line(0.02, 1e6, 0.001)
    line.calls(60)
    before_s = line.estimator.estimate(line.now_s).latency_s(30_000, 0.0, 0.03)
    line.rate = 3e4
    gaps_s = []
    for _ in range(6):
        line.call(30_000, time_left_s=0.5)
        assert line.estimator.estimate(line.now_s).latency_s(30_000, 0.0, 0.03) > before_s + 0.2
        ended_s = line.now_s
        while not line.estimator.may_probe(line.now_s):
            line.now_s += 0.01
        gaps_s.append(line.now_s - ended_s)
    assert gaps_s[-1] > 2 * gaps_s[2]


def test_a_link_that_does_not_answer_may_be_probed_at_once() -> None:
    """The breaker says when; with the next answer, late as it may be, probes wait again."""
    estimator = LinkEstimator()
    estimator.timed_out(estimator.departed(0.0, 30_000, 0.03, 0.5), 2.5)
    assert estimator.may_probe(2.5)
    late = estimator.departed(2.5, 30_000, 0.03, 0.5)
    estimator.answered(late, 0.6, 0.03, in_time=False)
    assert not estimator.may_probe(2.6)
    estimator.unreachable()
    assert estimator.may_probe(2.6)


def test_a_probe_in_time_forgets_what_late_calls_taught() -> None:
    """A stop of three seconds leaves no trace in round trip, rate and deviation; the calls before it do."""
    line = Line(0.01, 2e6, 0.001)
    line.calls(60)
    before = line.estimator.estimate(line.now_s)
    stopped = [line.estimator.departed(line.now_s, 40_000, 0.03, 0.5) for _ in range(4)]
    for upload in stopped:
        line.estimator.answered(upload, 3.0, 0.03, in_time=False)
    line.now_s += 3.03
    assert line.estimator.estimate(line.now_s).latency_s(40_000, 0.0, 0.03) > 0.5
    line.now_s += 1.0
    line.call(40_000, time_left_s=0.5)
    after = line.estimator.estimate(line.now_s)
    assert after.latency_s(40_000, 0.0, 0.03) < 0.1
    assert after.rtt_s == pytest.approx(before.rtt_s, abs=0.002)


def test_before_the_first_call_the_prior_holds() -> None:
    """Nothing is known yet."""
    assert LinkEstimator().estimate(5.0) == PRIOR


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 10), st.booleans()), min_size=1, max_size=80))
def test_any_calls_give_a_finite_estimate(calls: list[tuple[float, float, bool]]) -> None:
    """Empty payloads, calls of no duration, in any order: nothing divides by zero."""
    estimator = LinkEstimator()
    for n, (size, network_s, in_time) in enumerate(calls):
        upload = estimator.departed(n * 0.01, size, 0.0, 0.5)
        estimator.answered(upload, network_s, 0.0, in_time=in_time)
    estimate = estimator.estimate(len(calls) * 0.01)
    assert np.isfinite(estimate.latency_s(1e5, 0.0, 0.0))
