"""Promotion by bets: how often each verdict falls, for models that are better, equal, worse and broken."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillover.common.promotion import (
    Evidence,
    Rule,
    Verdict,
    fortune,
    staked_on_no_worse,
    staked_on_worse,
)

RUNS = 300
RULE = Rule()

differences = st.floats(-1, 1, allow_subnormal=False) | st.none()


def decided(better: float, worse: float, frames: int) -> tuple[float, float, float]:
    """Shares of runs that are promoted and aborted, and the median of the frames until then."""
    rng = np.random.default_rng(1)
    drawn = rng.random((RUNS, frames))
    x = np.where(drawn < better, 1, np.where(drawn < better + worse, -1, 0))
    crossed = []
    for stakes in (lambda one: staked_on_no_worse(one, RULE.margin), staked_on_worse):
        table = np.array([stakes(one) for one in (-1.0, 0.0, 1.0)])
        logs = np.stack([np.cumsum(column[x + 1], axis=1) for column in table.T], axis=-1)
        wealth = np.logaddexp.reduce(logs, axis=-1) - math.log(logs.shape[-1])
        over = wealth >= RULE.needed
        crossed.append(np.where(over.any(axis=1), over.argmax(axis=1), frames))
    promoted, aborted = crossed
    first = np.minimum(promoted, aborted)
    return (
        float(np.mean((promoted < aborted) & (first < frames))),
        float(np.mean((aborted <= promoted) & (first < frames))),
        float(np.median(first)) + 1,
    )


def test_models_as_good_are_promoted() -> None:
    """At .03 of the frames better and as many worse, at least 95 of 100."""
    promoted, aborted, frames = decided(0.03, 0.03, 6000)
    assert promoted >= 0.95
    assert aborted <= RULE.alpha
    assert 800 <= frames <= 1500


def test_a_better_model_is_promoted_soon() -> None:
    """Five points better: always, after some 177 frames."""
    promoted, aborted, frames = decided(0.08, 0.03, 1500)
    assert (promoted, aborted) == (1.0, 0.0)
    assert 140 <= frames <= 220


def test_a_model_that_is_worse_by_the_margin_is_hardly_ever_promoted() -> None:
    """At most alpha of the runs, however long they are looked at."""
    promoted, aborted, _ = decided(0.03, 0.05, 6000)
    assert promoted <= RULE.alpha
    assert aborted >= 0.9


def test_a_broken_model_is_aborted_within_60_frames() -> None:
    """It never gets through, and is gone after some 22 frames."""
    promoted, aborted, frames = decided(0.02, 0.42, 200)
    assert (promoted, aborted) == (0.0, 1.0)
    assert frames <= 60


def test_stages_divide_the_error() -> None:
    """With three verdicts on the same frames each needs three times the fortune."""
    assert Rule(stages=3).needed == pytest.approx(math.log(60))


@given(st.lists(differences, max_size=40), st.integers(0, 40))
def test_frames_of_several_devices_count_as_if_one_had_seen_them(seen: list[float | None], cut: int) -> None:
    """In any split, and whatever the order."""
    whole, first, second = Evidence(), Evidence(), Evidence()
    for one in seen:
        whole = whole.after(one, RULE.margin)
    for one in reversed(seen[:cut]):
        first = first.after(one, RULE.margin)
    for one in seen[cut:]:
        second = second.after(one, RULE.margin)
    both = first + second
    assert (both.equal, both.better, both.worse, both.missing) == (
        whole.equal,
        whole.better,
        whole.worse,
        whole.missing,
    )
    assert both.frames == len(seen)
    assert both.promote == pytest.approx(whole.promote, abs=1e-9)
    assert both.abort == pytest.approx(whole.abort, abs=1e-9)


@given(st.lists(st.floats(-1, 1, allow_subnormal=False), min_size=2, max_size=20))
def test_a_better_answer_never_counts_against_the_candidate(seen: list[float]) -> None:
    """The fortunes of a frame rise and fall with its difference."""
    for low, high in pairwise(sorted(seen)):
        assert staked_on_no_worse(low, 0.02) <= staked_on_no_worse(high, 0.02)
        assert staked_on_worse(low) >= staked_on_worse(high)


def test_answers_that_are_missing_decide_nothing() -> None:
    """They count against the candidate in either fortune; beyond 5 % there is no verdict at all."""
    evidence = Evidence()
    for _ in range(2000):
        evidence = evidence.after(0.0, RULE.margin)
    assert evidence.verdict(RULE) is Verdict.PROMOTE
    silent = evidence.after(None, RULE.margin)
    assert fortune(silent.promote) < fortune(evidence.promote)
    assert fortune(silent.abort) < fortune(evidence.abort)
    for _ in range(200):
        silent = silent.after(None, RULE.margin)
    assert silent.verdict(RULE) is Verdict.UNDECIDED


@pytest.mark.parametrize("wrong", [{"margin": 1.0}, {"margin": -0.1}, {"alpha": 0.0}, {"stages": 0}])
def test_a_rule_without_sense_is_refused(wrong: dict[str, float]) -> None:
    """No bet can be made with it."""
    with pytest.raises(ValueError, match="no rule"):
        Rule(**wrong)  # type: ignore[arg-type]
