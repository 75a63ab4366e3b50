"""The link estimator: finds the link's figures, is careful, and recovers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spillover.edge.link.estimator import LinkEstimator, Transfer


def fed(rtt_s: float, rate: float, jitter_s: float, count: int = 60, seed: int = 0) -> LinkEstimator:
    """An estimator that has seen `count` calls over a link."""
    random = np.random.default_rng(seed)
    estimator = LinkEstimator()
    for n in range(count):
        size = float(random.uniform(5_000, 60_000))
        network_s = rtt_s + size / rate + float(random.exponential(jitter_s))
        estimator.answered(Transfer(n * 0.1, size, network_s), 0.002, 0.03, in_time=True)
    return estimator


@given(st.floats(0.005, 0.3), st.floats(2e4, 5e6))
@settings(max_examples=40, deadline=None)
def test_a_steady_links_latency_is_found(rtt_s: float, rate: float) -> None:
    """On a link without jitter the expected latency of any payload is right within a tenth."""
    estimate = fed(rtt_s, rate, 1e-6).estimate(6.0)
    assert estimate is not None
    for size in (5_000, 60_000):
        true_s = rtt_s + size / rate + 0.032
        assert true_s * 0.95 <= estimate.latency_s(size, 0.0) <= true_s * 1.15 + 0.003


@pytest.mark.parametrize("jitter_s", [0.005, 0.03, 0.1])
def test_what_is_predicted_in_time_is_in_time(jitter_s: float) -> None:
    """At least 95 of 100 calls end before the predicted latency, whatever the jitter."""
    random = np.random.default_rng(1)
    estimator, in_time = fed(0.04, 1e6, jitter_s), 0
    for n in range(400):
        now = 6.0 + n * 0.1
        estimate = estimator.estimate(now)
        assert estimate is not None
        size = float(random.uniform(5_000, 60_000))
        network_s = 0.04 + size / 1e6 + float(random.exponential(jitter_s))
        in_time += network_s + 0.032 <= estimate.latency_s(size, 0.0)
        estimator.answered(Transfer(now, size, network_s), 0.002, 0.03, in_time=True)
    assert in_time >= 0.95 * 400


def test_a_link_that_slows_is_believed_at_once_and_one_that_heals_is_found_again() -> None:
    """A time-out raises the expected latency; old trouble is forgotten, and probes are due meanwhile."""
    estimator = fed(0.02, 1e6, 0.001)
    before = estimator.estimate(6.0)
    estimator.timed_out(Transfer(6.1, 30_000, 0.5))
    after = estimator.estimate(6.1)
    assert before is not None
    assert after is not None
    assert after.latency_s(30_000, 0) > before.latency_s(30_000, 0) + 0.2
    assert estimator.may_probe(6.1)
    estimator.tried(6.1, probe=True)
    assert not estimator.may_probe(8.5)
    assert estimator.may_probe(9.2)
    assert estimator.estimate(60.0) is None


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 10)), min_size=1, max_size=80))
def test_any_calls_give_a_finite_estimate(calls: list[tuple[float, float]]) -> None:
    """Empty payloads, calls of no duration: nothing divides by zero."""
    estimator = LinkEstimator()
    for n, (size, network_s) in enumerate(calls):
        estimator.answered(Transfer(n * 0.01, size, network_s), 0.0, 0.0, in_time=True)
    estimate = estimator.estimate(len(calls) * 0.01)
    assert estimate is not None
    assert np.isfinite(estimate.latency_s(1e5, 0.0))
