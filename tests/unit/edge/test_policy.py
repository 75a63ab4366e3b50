"""Policies: what is sent, what is kept, and why."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillover.common.errors import ConfigError
from spillover.common.model.manifest import Task
from spillover.common.types import Action, Prediction
from spillover.edge.assembly.policy import build_policy
from spillover.edge.config import BudgetConfig, Mode, PolicyConfig
from spillover.edge.link.estimator import LinkEstimate
from spillover.edge.link.state import BreakerPhase, LinkState, LinkView, PayloadOption, Tokens
from spillover.edge.policy.base import HELD_BACK, Context, Policy
from tests.support.edge_values import classification, detections

FREE = Context(time_left_s=0.4, link=LinkState(in_flight=0, max_in_flight=4))


def policy_of(
    mode: Mode = Mode.HYBRID, task: Task = Task.CLASSIFICATION, draw: float = 0.5, **keys: object
) -> Policy:
    """A policy built as the daemon builds it, with a fixed draw."""
    return build_policy(mode, PolicyConfig(**keys), task, 0.5, lambda: draw)  # type: ignore[arg-type]


def test_doubtful_frames_are_sent() -> None:
    """A score at or above the threshold sends the frame, and the decision holds both numbers."""
    decision = policy_of(kind="max_softmax", threshold=0.5).decide(classification(0.5, 0.5), FREE)
    assert decision.action is Action.SEND_FRAME
    assert decision.reason == "score>=threshold"
    assert decision.expected_gain == 0.5
    assert decision.inputs["score"] == 0.5
    assert decision.inputs["threshold"] == 0.5


def test_confident_frames_are_kept() -> None:
    """A score below the threshold keeps the frame."""
    decision = policy_of(kind="margin", threshold=0.9).decide(classification(0.9, 0.1), FREE)
    assert (decision.action, decision.reason) == (Action.KEEP, "confident")


@pytest.mark.parametrize(
    ("draw", "action", "reason"),
    [(0.01, Action.SEND_FRAME, "empty-audit"), (0.5, Action.KEEP, "empty")],
)
def test_empty_scenes_are_audited(draw: float, action: Action, reason: str) -> None:
    """A frame without detections is sent when the draw falls into the audit share: misses come to light."""
    decision = policy_of(task=Task.DETECTION, draw=draw, empty_audit_share=0.02).decide(detections(), FREE)
    assert (decision.action, decision.reason) == (action, reason)
    assert decision.inputs["draw"] == draw


def test_audit_share_is_the_share_that_is_sent() -> None:
    """Over many empty frames the share sent is the one asked for, within four standard deviations."""
    config = PolicyConfig(empty_audit_share=0.1)
    policy = build_policy(Mode.HYBRID, config, Task.DETECTION, 0.5, random.Random(1).random)
    sent = sum(policy.decide(detections(), FREE).action is Action.SEND_FRAME for _ in range(4000))
    assert abs(sent / 4000 - 0.1) < 4 * (0.1 * 0.9 / 4000) ** 0.5


@pytest.mark.parametrize("mode", [Mode.EDGE_ONLY, Mode.CLOUD_ONLY])
@pytest.mark.parametrize("prediction", [classification(0.5, 0.5), classification(1.0)])
def test_modes_ignore_the_prediction(mode: Mode, prediction: Prediction) -> None:
    """`edge_only` keeps every frame and `cloud_only` sends every frame."""
    decision = policy_of(mode).decide(prediction, FREE)
    assert decision.action is (Action.KEEP if mode is Mode.EDGE_ONLY else Action.SEND_FRAME)
    assert decision.reason == "mode"


@pytest.mark.parametrize(
    ("context", "reason"),
    [
        (Context(0.4, LinkState(in_flight=4, max_in_flight=4)), "in-flight cap"),
        (Context(0.0, LinkState(in_flight=0, max_in_flight=4)), "no time left"),
        (Context(0.4, LinkState(in_flight=0, max_in_flight=4, pushback_left_s=0.1)), "pushback"),
    ],
)
def test_guard_holds_back(context: Context, reason: str) -> None:
    """What the link cannot take now is kept, with the limit as reason, marked as wanted, gain kept."""
    decision = policy_of(threshold=0.2).decide(classification(0.6, 0.4), context)
    assert (decision.action, decision.reason) == (Action.KEEP, reason)
    assert decision.reason in HELD_BACK
    assert decision.expected_gain == pytest.approx(0.4)
    assert decision.inputs["in_flight"] == context.link.in_flight


@pytest.mark.parametrize(
    ("in_flight", "may_probe", "breaker", "reason"),
    [
        (1, True, BreakerPhase.CLOSED, "link too slow"),
        (0, False, BreakerPhase.CLOSED, "link too slow"),
        (0, True, BreakerPhase.CLOSED, "score>=threshold"),
        (0, False, BreakerPhase.HALF_OPEN, "score>=threshold"),
    ],
)
def test_what_would_be_late_is_kept_but_for_probes(
    in_flight: int, may_probe: bool, breaker: BreakerPhase, reason: str
) -> None:
    """The measured link decides; now and then a frame finds out whether it still is that slow."""
    option = PayloadOption("picture", Action.SEND_FRAME, 30_000, latency_s=0.5, fidelity=1.0)
    view = LinkView(LinkEstimate(0.2, 1e5, 0.0, 0.0, 0.0), (option,), may_probe=may_probe)
    link = LinkState(in_flight=in_flight, max_in_flight=4, breaker=breaker, view=view)
    decision = policy_of(threshold=0.2).decide(classification(0.6, 0.4), Context(0.4, link))
    assert decision.reason == reason
    assert decision.predicted_latency_s == 0.5
    assert decision.inputs["rate_bytes_per_s"] == 1e5


def test_guard_leaves_kept_frames_alone() -> None:
    """A frame that nobody wanted sent is `confident` even when the link is full."""
    full = Context(0.4, LinkState(in_flight=4, max_in_flight=4))
    assert policy_of(threshold=0.9).decide(classification(0.6, 0.4), full).reason == "confident"


@pytest.mark.parametrize(
    ("kind", "task"),
    [("mean_score", Task.CLASSIFICATION), ("entropy", Task.DETECTION), ("x", Task.DETECTION)],
)
def test_scorer_must_fit_the_task(kind: str, task: Task) -> None:
    """A scorer of the other task, or none at all, is a configuration error that names the choices."""
    with pytest.raises(ConfigError, match=r"policy\.kind.*auto"):
        policy_of(kind=kind, task=task)


@given(
    doubt=st.floats(0, 0.5),
    left_s=st.floats(-0.1, 1),
    latency_s=st.floats(0.01, 1),
    in_flight=st.integers(0, 4),
    pushback_s=st.sampled_from([0.0, 0.3]),
    tokens=st.floats(0, 60_000),
    draw=st.floats(0, 1, exclude_max=True),
)
def test_a_decision_follows_from_its_inputs(
    doubt: float,
    left_s: float,
    latency_s: float,
    in_flight: int,
    pushback_s: float,
    tokens: float,
    draw: float,
) -> None:
    """What a log holds of a decision is enough to make it again, in the order of the rules."""
    option = PayloadOption("picture", Action.SEND_FRAME, 30_000, latency_s, 1.0)
    link = LinkState(
        in_flight=in_flight,
        max_in_flight=4,
        pushback_left_s=pushback_s,
        view=LinkView(options=(option,), may_probe=False),
        tokens=Tokens(tokens, 60_000, 100.0),
    )
    config = PolicyConfig(
        kind="max_softmax", threshold=0.2, budget=BudgetConfig(bytes=600_000), audit_share=0.1
    )
    policy = build_policy(Mode.HYBRID, config, Task.CLASSIFICATION, 0.5, lambda: draw)
    decision = policy.decide(classification(1 - doubt, doubt), Context(left_s, link))
    told = decision.inputs
    wanted = told["score"] >= told["threshold"] and told["rank"] >= told["needed_rank"]
    audited = told["audit_draw"] < told["audit_share"]
    if not wanted and not audited:
        assert decision.action is Action.KEEP
        assert decision.reason == ("outranked" if told["score"] >= told["threshold"] else "confident")
        return
    obstacles = {
        "no time left": told["time_left_s"] <= 0,
        "pushback": told["pushback_left_s"] > 0,
        "in-flight cap": told["in_flight"] >= told["max_in_flight"],
        "link too slow": told["latency_s.picture"] > told["time_left_s"] and not told["may_probe"],
        "over budget": told["needed_bytes"] > told["tokens_bytes"],
    }
    met = next((reason for reason, forbids in obstacles.items() if forbids), None)
    if not wanted:
        assert decision.reason == ("audit put off" if met else "audit")
    else:
        assert decision.reason == (met or "score>=threshold")
    assert (decision.action is Action.KEEP) == bool(met)
