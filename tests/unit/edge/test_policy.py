"""Policies: what is sent, what is kept, and why."""

import random
import re
from pathlib import Path

import pytest

from spillover.common.errors import ConfigError
from spillover.common.tasks.base import TaskSpec
from spillover.common.tasks.classification import CLASSIFICATION
from spillover.common.tasks.detection import DETECTION
from spillover.common.types import Action, Decision, Prediction
from spillover.edge.config import Mode
from spillover.edge.link.estimator import LinkEstimate
from spillover.edge.link.state import BreakerPhase, LinkState, LinkView, PayloadOption
from spillover.edge.policy.base import Context
from spillover.edge.policy.chain import KEEP_ALL, ORDER, EmptyRules, Policy, ScoreThreshold
from spillover.edge.policy.guard import LinkGuard
from spillover.edge.policy.share import FixedThreshold
from tests.support.edge_values import classification, detections
from tests.support.policies import decide, policy_of

FREE = Context(time_left_s=0.4, link=LinkState(in_flight=0, max_in_flight=4))


def test_doubtful_frames_are_sent() -> None:
    """A score at or above the threshold sends the frame, and the decision holds both numbers."""
    decision = decide(policy_of(kind="max_softmax", threshold=0.5), classification(0.5, 0.5), FREE)
    assert decision.action is Action.SEND_FRAME
    assert decision.reason == "score>=threshold"
    assert decision.expected_gain == 0.5
    assert decision.score == decision.inputs["score"] == 0.5
    assert decision.inputs["threshold"] == 0.5


def test_confident_frames_are_kept() -> None:
    """A score below the threshold keeps the frame."""
    decision = decide(policy_of(kind="margin", threshold=0.9), classification(0.9, 0.1), FREE)
    assert (decision.action, decision.reason) == (Action.KEEP, "confident")


@pytest.mark.parametrize(
    ("draw", "action", "reason"),
    [(0.01, Action.SEND_FRAME, "empty-audit"), (0.5, Action.KEEP, "empty")],
)
def test_empty_scenes_are_audited(draw: float, action: Action, reason: str) -> None:
    """A frame without detections is sent when the draw falls into the audit share: misses come to light."""
    policy = policy_of(task=DETECTION, draw=draw, empty_audit_share=0.02)
    decision = decide(policy, detections(), FREE)
    assert (decision.action, decision.reason) == (action, reason)
    assert decision.inputs["draw"] == draw


def test_audit_share_is_the_share_that_is_sent() -> None:
    """Over many empty frames the share sent is the one asked for, within four standard deviations."""
    policy = policy_of(task=DETECTION, draw=random.Random(1).random, empty_audit_share=0.1)
    sent = sum(decide(policy, detections(), FREE).action is Action.SEND_FRAME for _ in range(4000))
    assert abs(sent / 4000 - 0.1) < 4 * (0.1 * 0.9 / 4000) ** 0.5


@pytest.mark.parametrize("mode", [Mode.EDGE_ONLY, Mode.CLOUD_ONLY])
@pytest.mark.parametrize("prediction", [classification(0.5, 0.5), classification(1.0)])
def test_modes_ignore_the_prediction(mode: Mode, prediction: Prediction) -> None:
    """`edge_only` keeps every frame and `cloud_only` sends every frame."""
    decision = decide(policy_of(mode), prediction, FREE)
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
    decision = decide(policy_of(threshold=0.2), classification(0.6, 0.4), context)
    assert (decision.action, decision.reason) == (Action.KEEP, reason)
    assert decision.degraded
    assert decision.expected_gain == pytest.approx(0.4)
    assert decision.inputs["in_flight"] == context.link.in_flight


@pytest.mark.parametrize(
    ("in_flight", "may_probe", "breaker", "reason"),
    [
        (1, True, BreakerPhase.CLOSED, "link too slow"),
        (0, False, BreakerPhase.CLOSED, "link too slow"),
        (0, True, BreakerPhase.CLOSED, "score>=threshold"),
        (1, True, BreakerPhase.HALF_OPEN, "score>=threshold"),
        (0, False, BreakerPhase.HALF_OPEN, "link too slow"),
    ],
)
def test_what_would_be_late_is_kept_but_for_probes(
    in_flight: int, may_probe: bool, breaker: BreakerPhase, reason: str
) -> None:
    """The measured link decides; now and then a frame finds out whether it still is that slow."""
    option = PayloadOption("picture", Action.SEND_FRAME, 30_000, latency_s=0.5, fidelity=1.0)
    view = LinkView(LinkEstimate(0.2, 1e5, 0.0, 0.0), (option,), may_probe=may_probe)
    link = LinkState(in_flight=in_flight, max_in_flight=4, breaker=breaker, view=view)
    decision = decide(policy_of(threshold=0.2), classification(0.6, 0.4), Context(0.4, link))
    assert decision.reason == reason
    assert decision.is_probe == (breaker is not BreakerPhase.CLOSED and reason != "link too slow")
    assert decision.predicted_latency_s == 0.5
    assert decision.inputs["rate_bytes_per_s"] == 1e5


def test_guard_leaves_kept_frames_alone() -> None:
    """A frame that nobody wanted sent is `confident` even when the link is full."""
    full = Context(0.4, LinkState(in_flight=4, max_in_flight=4))
    decision = decide(policy_of(threshold=0.9), classification(0.6, 0.4), full)
    assert (decision.reason, decision.degraded) == ("confident", False)


@pytest.mark.parametrize(
    ("kind", "task"),
    [("mean_score", CLASSIFICATION), ("entropy", DETECTION), ("x", DETECTION)],
)
def test_scorer_must_fit_the_task(kind: str, task: TaskSpec) -> None:
    """A scorer of the other task, or none at all, is a configuration error that names the choices."""
    with pytest.raises(ConfigError, match=r"policy\.kind.*auto"):
        policy_of(kind=kind, task=task)


def test_the_documented_order_is_the_order_of_the_code() -> None:
    """ARCHITECTURE.md lists the rules as `edge.policy.chain` applies them."""
    text = (Path(__file__).parents[3] / "ARCHITECTURE.md").read_text(encoding="utf-8")
    section = text.partition("## The order of the policy")[2].partition("\n## ")[0]
    documented = re.findall(r"^\d\. `(\w+)`", section, re.MULTILINE)
    assert documented == [rule.__name__ for rule in ORDER]


def test_rules_apply_in_the_one_order_however_they_are_given() -> None:
    """Whoever builds a policy cannot put the link before the score."""
    score = ScoreThreshold(FixedThreshold(0.0), EmptyRules(), lambda: 0.5)
    full = Context(0.4, LinkState(in_flight=4, max_in_flight=4), score=0.3)
    for rules in ([LinkGuard(), score], [score, LinkGuard()]):
        assert Policy(KEEP_ALL, rules).decide(full).reason == "in-flight cap"


def test_a_rule_without_a_place_in_the_order_is_refused() -> None:
    """A policy with it is not built."""

    def keeps(decision: Decision, context: Context) -> Decision:
        del context
        return decision

    with pytest.raises(ValueError, match="not in tuple"):
        Policy(KEEP_ALL, [keeps])
