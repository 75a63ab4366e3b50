"""The risk bound: holds on average, moves with the world, and says how sure it is."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.policy.rules import threshold_for_risk
from spillover.edge.policy.auditor import AuditedRisk, wilson


def world(random: np.random.Generator, count: int, difficulty: float) -> tuple[np.ndarray, np.ndarray]:
    """Scores, and whether the local answer is wrong: the likelier the higher the score."""
    scores = random.random(count)
    return scores, random.random(count) < difficulty * scores**2


@pytest.mark.parametrize("alpha", [0.02, 0.05, 0.1])
@pytest.mark.parametrize("count", [60, 300])
def test_the_joint_error_is_at_most_alpha_on_average(alpha: float, count: int) -> None:
    """Over many splits the share of new frames that are kept and wrong stays below the bound."""
    random = np.random.default_rng(0)
    risks = []
    for _ in range(400):
        threshold = threshold_for_risk(*world(random, count, 0.6), alpha)
        scores, wrong = world(random, 500, 0.6)
        risks.append(np.mean((scores < threshold) & wrong))
    assert np.mean(risks) <= alpha + 0.002


@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60),
    st.floats(0.01, 0.9),
)
def test_the_threshold_is_the_highest_that_is_safe(frames: list[tuple[float, bool]], alpha: float) -> None:
    """It keeps the bound on the frames at hand, and any higher one breaks it."""
    scores = np.array([s for s, _ in frames])
    wrong = np.array([w for _, w in frames])
    threshold = threshold_for_risk(scores, wrong, alpha)
    count = len(frames)

    def bound(t: float) -> float:
        return (np.sum((scores < t) & wrong) + 1) / (count + 1)

    if threshold == -math.inf:
        assert 1 / (count + 1) > alpha
    else:
        assert bound(threshold) <= alpha + 1e-12
        if threshold < math.inf:
            assert bound(np.nextafter(threshold, 2)) > alpha - 1e-12


@pytest.mark.parametrize("after", [0.3, 1.0])
def test_after_a_drift_the_risk_is_back_within_a_point(after: float) -> None:
    """500 audits after the world has become easier or harder, the true risk is alpha again, within 0.01."""
    alpha, ends = 0.05, []
    for seed in range(12):
        random = np.random.default_rng(seed)
        control = AuditedRisk(alpha)
        for difficulty, audits in ((0.6, 1500), (after, 500)):
            scores, wrong = world(random, audits * 20, difficulty)
            for n, (score, is_wrong) in enumerate(zip(scores, wrong, strict=True)):
                control.saw(float(score))
                if n % 20 == 0:
                    control.audited(loss=bool(is_wrong) and score < control.threshold)
        scores, wrong = world(random, 20_000, after)
        ends.append(np.mean((scores < control.threshold) & wrong))
    assert np.mean(ends) == pytest.approx(alpha, abs=0.01)


@given(st.integers(0, 200), st.integers(1, 200))
def test_the_interval_holds_the_share(events: int, count: int) -> None:
    """Inside 0..1, around the share, narrower with more audits."""
    events = min(events, count)
    estimate = wilson(events, count)
    assert 0 <= estimate.low <= estimate.error + 1e-12
    assert estimate.error - 1e-12 <= estimate.high <= 1
    wider = wilson(events, count)
    more = wilson(events * 10, count * 10)
    assert more.high - more.low <= wider.high - wider.low


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=300), st.floats(0.01, 0.5))
@settings(deadline=None)
def test_the_mean_loss_cannot_stray(audits: list[tuple[float, bool]], alpha: float) -> None:
    """Whatever comes, the losses over T audits sum to at most alpha T + (1 + step) / step."""
    control, losses = AuditedRisk(alpha), 0
    for score, wrong in audits:
        control.saw(score)
        loss = wrong and score < control.threshold
        losses += loss
        control.audited(loss=loss)
    assert losses <= alpha * len(audits) + 52
