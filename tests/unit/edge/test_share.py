"""The threshold that sends about a share of all frames, whatever the scores are."""

import math
import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillover.common.tasks.classification import CLASSIFICATION
from spillover.common.tasks.detection import DETECTION
from spillover.common.types import Action, Prediction
from spillover.edge.config import BudgetConfig
from spillover.edge.link.state import LinkState
from spillover.edge.policy.base import Context
from spillover.edge.policy.share import MOST_CREDIT, FixedThreshold, RunningShare, Threshold, thresholds_for
from tests.support.edge_values import classification, detections
from tests.support.policies import decide, policy_of

FREE = Context(time_left_s=0.4, link=LinkState(in_flight=0, max_in_flight=4))
FRAMES = 4000


def passed(thresholds: RunningShare, scores: Sequence[float]) -> list[bool]:
    """Which of the frames with these scores pass."""
    return [thresholds.for_frame(score).passes(score) for score in scores]


def _counts(draw: random.Random) -> float:
    return float(draw.choice([0, 1, 1, 1, 2, 2, 3]))


SCORES: dict[str, Callable[[random.Random], float]] = {
    "spread over 0..1": lambda draw: draw.betavariate(1, 8),
    "of any size": lambda draw: draw.expovariate(0.001),
    "counts": _counts,
    "one value alone": lambda _: 0.7,
    "mostly nothing": lambda draw: draw.random() if draw.random() < 0.5 else 0.0,
    "mostly below nothing, as gains are": lambda draw: draw.gauss(-0.1, 0.2),
}


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3])
@pytest.mark.parametrize("name", SCORES)
def test_the_share_holds_whatever_the_unit_of_the_score(name: str, share: float) -> None:
    """Fine scores, counts and a single value: what passes is the share asked for, and the highest."""
    draw = random.Random(5)
    scores = [SCORES[name](draw) for _ in range(FRAMES)]
    sent = passed(RunningShare(share), scores)
    assert sum(sent) / FRAMES == pytest.approx(share, rel=0.12)
    chosen = np.array(sent)
    assert np.array(scores)[chosen].mean() >= np.mean(scores)
    assert not np.array(scores)[chosen].min() <= 0


def test_the_best_are_chosen_among_counts_too() -> None:
    """One frame in twenty has a higher count than all others: nearly all of those pass, before any tie."""
    draw = random.Random(1)
    scores = [2.0 if draw.random() < 0.05 else 1.0 for _ in range(FRAMES)]
    sent = passed(RunningShare(0.1), scores)
    best = [is_sent for is_sent, score in zip(sent, scores, strict=True) if score > 1]
    assert sum(best) / len(best) > 0.9
    assert sum(sent) / FRAMES == pytest.approx(0.1, rel=0.1)


@pytest.mark.parametrize("step", [0.001, -0.001])
def test_scores_that_drift_for_ever_get_no_more_than_the_share(step: float) -> None:
    """At dusk each frame is harder than all before; it does not follow that all are sent."""
    draw = random.Random(2)
    scores = [10 + step * number + 0.3 * draw.random() for number in range(FRAMES)]
    sent = passed(RunningShare(0.1), scores)
    assert 0.05 < sum(sent) / FRAMES < 0.12


@given(
    share=st.floats(0.001, 1),
    scores=st.lists(st.one_of(st.floats(-1e6, 1e6), st.sampled_from([0.0, 1.0, 2.0])), max_size=300),
)
def test_no_stretch_of_frames_has_more_than_its_share_and_a_credit(share: float, scores: list[float]) -> None:
    """For any scores: what the frames earn and the credit before them; and nothing without a gain."""
    thresholds = RunningShare(share)
    sent = passed(thresholds, scores)
    credit = max(MOST_CREDIT, 200 * share)
    for begin in range(0, len(sent), 37):
        assert sum(sent[begin:]) <= credit + share * (len(sent) - begin) + 1e-6
    assert all(score > 0 for is_sent, score in zip(sent, scores, strict=True) if is_sent)
    assert all(math.isfinite(thresholds.for_frame(score).score) for score in scores)


def test_before_there_are_scores_every_fourth_frame_is_sent() -> None:
    """The first, so that the link is known, and then at even distances, whatever the scores are."""
    sent = passed(RunningShare(0.25), [0.5 - number / 100 for number in range(20)])
    assert [number for number, is_sent in enumerate(sent) if is_sent] == [0, 4, 8, 12, 16]


def test_a_fitted_file_stands_in_for_the_first_scores() -> None:
    """With the gains of other pictures in hand the first frames are judged by them."""
    seen = [number / 100 for number in range(101)]
    assert passed(RunningShare(0.1, seen), [0.2, 0.95, 0.5, 0.96]) == [False, True, False, True]


def test_all_is_all() -> None:
    """A share of 1 sends every frame that gains anything."""
    draw = random.Random(0)
    assert all(passed(RunningShare(1.0), [draw.random() + 0.01 for _ in range(500)]))


def test_a_policy_without_keys_sends_a_tenth() -> None:
    """Of classifiers and of detectors, on scores of their own; the threshold in force is in each decision."""
    draw = random.Random(3)
    guess = lambda: draw.uniform(0.5, 1.0)  # noqa: E731 - a name for what is drawn
    streams: list[tuple[dict[str, object], Callable[[], Prediction]]] = [
        ({"task": CLASSIFICATION}, lambda: classification(best := guess(), 1 - best)),
        ({"task": CLASSIFICATION, "kind": "entropy"}, lambda: classification(best := guess(), 1 - best)),
        ({"task": DETECTION}, lambda: detections(*sorted((draw.random() for _ in range(12)), reverse=True))),
        (
            {"task": DETECTION, "kind": "mean_score"},
            lambda: detections(*sorted((draw.random() for _ in range(12)), reverse=True)),
        ),
    ]
    for keys, picture in streams:
        policy = policy_of(draw=0.99, **keys)  # type: ignore[arg-type]
        decisions = [decide(policy, picture(), FREE) for _ in range(1500)]
        sent = [decision for decision in decisions if decision.action is Action.SEND_FRAME]
        assert len(sent) / 1500 == pytest.approx(0.1, rel=0.2), keys
        assert all(decision.reason == "score>=threshold" for decision in sent)
        assert all(decision.inputs["score"] >= decision.inputs["threshold"] for decision in sent)


def test_a_quiet_detector_sends_for_motion_within_the_share() -> None:
    """Frames without boxes count as frames, and motion competes for the same share."""
    policy = policy_of(task=DETECTION, draw=0.99, send_share=0.1)
    actions = [decide(policy, detections(), FREE).action for _ in range(300)]
    assert set(actions) == {Action.KEEP}


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"send_share": 0.1, "threshold": 0.5}, "threshold: and send_share"),
        ({"send_share": 0.1, "max_error": 0.05}, "max_error: and send_share"),
        ({"threshold": 0.5, "max_error": 0.05}, "max_error: and threshold"),
    ],
)
def test_two_keys_that_say_what_is_sent_are_refused(keys: dict[str, float], named: str) -> None:
    """Nobody has to know which of them wins."""
    with pytest.raises(ValueError, match=f"{named} both say"):
        policy_of(**keys)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("keys", "kind"),
    [
        ({}, RunningShare),
        ({"send_share": 0.2}, RunningShare),
        ({"threshold": 0.2}, FixedThreshold),
        ({"else_any": True}, FixedThreshold),
        ({"else_any": True, "send_share": 0.2}, RunningShare),
    ],
)
def test_which_key_wins(keys: dict[str, object], kind: type) -> None:
    """As the table in docs/guides/policy.md says: a share, unless another key is there."""
    found = thresholds_for(**{"send_share": None, "threshold": None, "else_any": False, **keys})  # type: ignore[arg-type]
    assert isinstance(found, kind)


def test_a_budget_alone_ranks_all_that_gain_anything() -> None:
    """No threshold needs to be known for it; a share holds beside it."""
    budget = BudgetConfig(bytes=10_000_000)
    least = decide(policy_of(budget=budget), classification(0.99, 0.01), FREE)
    assert least.reason == "score>=threshold"
    nothing = decide(policy_of(budget=budget), classification(1.0), FREE)
    assert nothing.action is Action.KEEP


@pytest.mark.parametrize(
    ("threshold", "score", "passes"),
    [
        (Threshold(0.5), 0.5, True),
        (Threshold(0.5), 0.4, False),
        (Threshold(0.5, 0.99), 0.5, False),
        (Threshold(0.5, 1.0), 0.5, True),
        (Threshold(0.5, 0.0), 0.6, True),
    ],
)
def test_ties(threshold: Threshold, score: float, passes: bool) -> None:
    """What equals a fixed threshold passes; what equals a running one needs credit."""
    assert threshold.passes(score) == passes
