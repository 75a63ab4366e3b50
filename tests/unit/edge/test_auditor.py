"""Audits: who is sent at random, what is counted of them, and what moves with them."""

import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from spillover.common.tasks.detection import DETECTION
from spillover.common.types import Action, AuditMark, Classification, Decision, ModelId, Result
from spillover.edge.config import BudgetConfig, Period
from spillover.edge.link.byte_budget import Budget, Tokens, wire_bytes
from spillover.edge.link.state import LinkState, LinkView, PayloadOption
from spillover.edge.policy.auditor import Auditor, ErrorEstimate
from spillover.edge.policy.base import Context, Reason
from spillover.edge.uplink.outcome import CloudAnswer
from spillover.lab.pairs.replay.simulate import SimulatedBudget
from tests.support.edge_values import classification, detections, result
from tests.support.policies import decide, policy_of

FREE = Context(time_left_s=0.4, link=LinkState(in_flight=0, max_in_flight=4))


def says(class_id: int) -> CloudAnswer:
    """The cloud's answer."""
    prediction = Classification(np.array([class_id], np.int32), np.ones(1, np.float32))
    return CloudAnswer(prediction, ModelId("big", "1"), 0.0, 0.0, 0.0, 0.0)


def test_confident_frames_are_audited_at_random() -> None:
    """About the share asked for is sent, with the draw, and marked as what the policy would have kept."""
    policy = policy_of(draw=random.Random(1).random, audit_share=0.1, threshold=0.5)
    decisions = [decide(policy, classification(0.9, 0.1), FREE) for _ in range(4000)]
    audits = [decision for decision in decisions if decision.action is Action.SEND_FRAME]
    assert abs(len(audits) / 4000 - 0.1) < 4 * (0.1 * 0.9 / 4000) ** 0.5
    assert {decision.reason for decision in audits} == {"audit"}
    assert all(decision.audit == AuditMark(would_keep=True) for decision in audits)
    assert all(decision.inputs["audit_draw"] < 0.1 for decision in audits)


def local(score: float, audit: AuditMark | None) -> Result:
    """The edge says class 0."""
    return replace(result(), decision=Decision(Action.SEND_FRAME, "audit", score, score=score, audit=audit))


KEPT, SENT = AuditMark(would_keep=True), AuditMark(would_keep=False)


def test_only_audits_count_and_only_kept_ones_can_be_wrong() -> None:
    """Frames that the policy picks are no sample; one that it sends anyway is not the edge's mistake."""
    seen: list[ErrorEstimate] = []
    auditor = Auditor(0.5, 0.5, None, seen.append)
    auditor.answered(local(0.2, None), says(1))
    assert seen == []
    auditor.answered(local(0.2, KEPT), says(1))
    auditor.answered(local(0.9, SENT), says(1))
    auditor.answered(local(0.2, KEPT), says(0))
    assert [(estimate.error, estimate.audits) for estimate in seen] == [(1, 1), (0.5, 2), (1 / 3, 3)]
    assert seen[-1].low < 1 / 3 < seen[-1].high
    assert auditor.threshold is None


def test_the_threshold_moves_until_the_error_is_what_was_asked_for() -> None:
    """A daemon's own loop: decide, audit, count; the share kept and wrong ends near `max_error`."""
    draws = random.Random(3)
    seen: list[ErrorEstimate] = []
    auditor = Auditor(0.5, 0.5, 0.05, seen.append)
    policy = policy_of(draw=draws.random, audit_share=0.1, max_error=0.05)
    kept_and_wrong = []
    for _ in range(20_000):
        doubt = draws.random() * 0.5
        context = Context(0.4, LinkState(max_in_flight=4), threshold=auditor.threshold)
        decision = decide(policy, classification(1 - doubt, doubt), context)
        answer = says(int(draws.random() < doubt))
        frame = local(doubt, decision.audit)
        auditor.decided(frame)
        auditor.answered(frame, answer)
        keeps = decision.action is Action.KEEP or decision.reason == "audit"
        kept_and_wrong.append(keeps and answer.prediction.class_id[0] == 1)  # type: ignore[union-attr]
    assert np.mean(kept_and_wrong[10_000:]) == pytest.approx(0.05, abs=0.015)
    assert seen[-1].low < 0.05 < seen[-1].high


def test_an_audit_that_cannot_leave_is_put_off() -> None:
    """An audit that the link blocks is optional: the result is the edge's, and not marked degraded."""
    policy = policy_of(draw=0.0, spool_from=0.0, audit_share=1.0, threshold=0.5)
    full = Context(0.4, LinkState(in_flight=4, max_in_flight=4))
    decision = decide(policy, classification(0.9, 0.1), full)
    assert (decision.action, decision.reason) == (Action.KEEP, "audit put off")
    assert not decision.degraded


def test_audits_take_a_twentieth_of_a_small_budget() -> None:
    """Of a budget for 2.7 % of all bytes, an `audit_share` of 1 % would take a third; of all frames alike."""
    draws, size = random.Random(5), 30_000.0
    frames, frames_per_s = 20_000, 10
    bytes_per_s = 0.027 * wire_bytes(size) * frames_per_s
    budget = BudgetConfig(bytes=round(bytes_per_s * 3600), per=Period.HOUR)
    simulated = SimulatedBudget(Budget(budget.bytes, 3600, 10 * size))
    policy = policy_of(draw=draws.random, audit_share=0.01, threshold=0.2, budget=budget)
    option = PayloadOption("picture", Action.SEND_FRAME, size, 0.1, fidelity=1.0)
    sent, marks = Counter[str](), Counter[bool]()
    for n in range(frames):
        now_s, doubt = n / frames_per_s, draws.random() * 0.5
        tokens = simulated.tokens(now_s)
        link = LinkState(max_in_flight=4, view=LinkView(options=(option,)), tokens=tokens)
        decision = decide(policy, classification(1 - doubt, doubt), Context(0.4, link, now_s))
        if decision.action is Action.SEND_FRAME and simulated.spend(wire_bytes(size), now_s):
            sent[decision.reason] += 1
            if decision.audit is not None:
                marks[decision.audit.would_keep] += 1
    assert 0.02 < sent[Reason.AUDIT] / sent.total() < 0.08
    assert sent.total() > 0.9 * 0.027 * frames
    expected = 0.05 * 0.027 * sent[Reason.SCORE]
    assert marks[False] <= expected + 4 * expected**0.5 + 1


def test_audits_of_empty_frames_take_a_twentieth_of_a_small_budget() -> None:
    """A detector that sees nothing for hours would have 2 % of its frames audited: nearly all of it."""
    draws, size = random.Random(6), 30_000.0
    bytes_per_s = 0.027 * wire_bytes(size) * 10
    budget = BudgetConfig(bytes=round(bytes_per_s * 3600), per=Period.HOUR)
    policy = policy_of(task=DETECTION, draw=draws.random, audit_share=0.0, budget=budget)
    option = PayloadOption("picture", Action.SEND_FRAME, size, 0.1, fidelity=1.0)
    tokens = Tokens(5 * size, 10 * size, bytes_per_s)
    link = LinkState(max_in_flight=4, view=LinkView(options=(option,)), tokens=tokens)
    reasons = Counter(decide(policy, detections(), Context(0.4, link, n / 10)).reason for n in range(20_000))
    assert 0.6 < reasons[Reason.EMPTY_AUDIT] / (0.05 * 0.027 * 20_000) < 1.4


def test_a_frame_that_is_outranked_and_then_audited_has_its_gain_and_bytes_once() -> None:
    """The form of the audit counts: its fidelity once, and its bytes, not those of the usual form."""
    options = (
        PayloadOption("picture", Action.SEND_FRAME, 40_000, 0.6, fidelity=1.0),
        PayloadOption("small", Action.SEND_FRAME, 10_000, 0.1, fidelity=0.5),
    )
    link = LinkState(max_in_flight=4, view=LinkView(options=options), tokens=Tokens(5e4, 1e6, 1.0))
    budget = BudgetConfig(bytes=10**7, per=Period.HOUR)
    policy = policy_of(draw=0.0, audit_share=1.0, threshold=0.1, budget=budget)
    for n in range(50):
        decide(policy, classification(0.5, 0.5), Context(0.4, link, n / 10))
    decision = decide(policy, classification(0.6, 0.4), Context(0.4, link, 5.0))
    assert (decision.reason, decision.payload) == (Reason.AUDIT, "small")
    assert decision.inputs["rank"] < decision.inputs["needed_rank"]
    assert decision.expected_gain == pytest.approx(0.4 * 0.5)
    assert decision.needed_bytes == wire_bytes(10_000)


def test_a_kept_frame_that_is_audited_needs_the_bytes_of_its_form() -> None:
    """A budget that pays for the small form lets it pass, though not for the usual one."""
    options = (
        PayloadOption("picture", Action.SEND_FRAME, 40_000, 0.1, fidelity=1.0),
        PayloadOption("small", Action.SEND_FRAME, 10_000, 0.1, fidelity=0.5),
    )
    link = LinkState(max_in_flight=4, view=LinkView(options=options), tokens=Tokens(2e4, 1e6, 1e9))
    budget = BudgetConfig(bytes=10**7, per=Period.HOUR)
    policy = policy_of(draw=0.0, audit_share=0.01, threshold=0.9, budget=budget)
    decision = decide(policy, classification(0.9, 0.1), Context(0.4, link))
    assert (decision.action, decision.reason, decision.payload) == (Action.SEND_FRAME, Reason.AUDIT, "small")
    assert decision.needed_bytes == wire_bytes(10_000)
