"""Audits: who is sent at random, what is counted of them, and what moves with them."""

import random
from dataclasses import replace

import numpy as np
import pytest

from spillover.common.types import Action, AuditMark, Classification, Decision, ModelId, Result
from spillover.edge.link.state import LinkState
from spillover.edge.policy.auditor import Auditor, ErrorEstimate
from spillover.edge.policy.base import Context
from spillover.edge.uplink.outcome import CloudAnswer
from tests.support.edge_values import classification, result
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
