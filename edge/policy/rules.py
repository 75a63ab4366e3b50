"""The policies: always keep, always send, send by score; and the guard that asks the link."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from spillover.common.types import Action, Decision, Detections, Prediction
from spillover.edge.link.state import BreakerPhase, LinkState
from spillover.edge.policy.base import Context, Draw, Policy, Reason
from spillover.edge.policy.scores import Scorer, ScoreSettings

FULL_MOTION = 0.05
"""Share of the picture that has to change for all of the gain of motion."""


class Fixed:
    """Modes `edge_only` and `cloud_only`: one action for every frame."""

    def __init__(self, action: Action) -> None:
        self._decision = Decision(action, Reason.MODE)

    def decide(self, prediction: Prediction, context: Context) -> Decision:
        """Give the same decision whatever is seen."""
        del prediction, context
        return self._decision


@dataclass(frozen=True, slots=True)
class EmptyRules:
    """What becomes of frames without reported boxes; see `edge.config.PolicyConfig`."""

    audit_share: float
    motion_gain: float = 0.0
    lost_track_gain: float = 0.0


class ScoreThreshold:
    """Sends frames whose score reaches the threshold.

    A missed object leaves no box behind that a score could be computed from. So a frame without reported
    boxes gains by what moves in it and by what was there a moment ago; and where the scorer finds nothing to
    judge by, a random share is sent all the same.
    """

    def __init__(
        self, scorer: Scorer, settings: ScoreSettings, threshold: float, empty: EmptyRules, draw: Draw
    ) -> None:
        self._scorer = scorer
        self._settings = settings
        self._threshold = threshold
        self._empty = empty
        self._draw = draw

    def decide(self, prediction: Prediction, context: Context) -> Decision:
        """Send by score; audit when empty."""
        threshold = self._threshold if context.threshold is None else context.threshold
        score = self._scorer(prediction, self._settings)
        alarms = self._alarms(prediction, context)
        total = (score or 0.0) + sum(alarms.values())
        inputs: dict[str, float] = {"threshold": threshold}
        if alarms:
            inputs |= {
                "motion": context.surroundings.motion,
                "lost_track": float(context.surroundings.lost_track),
            }
        if score is None and (not alarms or total < threshold):
            return self._audit(total, inputs)
        inputs["score"] = total
        if total < threshold:
            return Decision(Action.KEEP, Reason.CONFIDENT, expected_gain=total, inputs=inputs)
        by_itself = score is not None and score >= threshold
        reason = Reason.SCORE if by_itself or not alarms else max(alarms, key=lambda key: alarms[key])
        return Decision(Action.SEND_FRAME, reason, expected_gain=total, inputs=inputs)

    def _alarms(self, prediction: Prediction, context: Context) -> dict[Reason, float]:
        """Gains of a frame without reported boxes, by what speaks for them."""
        reported = self._settings.report_threshold
        if not isinstance(prediction, Detections) or (prediction.confidence >= reported).any():
            return {}
        seen, empty = context.surroundings, self._empty
        gains = {
            Reason.MOTION: empty.motion_gain * min(1.0, seen.motion / FULL_MOTION),
            Reason.LOST_TRACK: empty.lost_track_gain * seen.lost_track,
        }
        return {reason: gain for reason, gain in gains.items() if gain > 0}

    def _audit(self, gain: float, inputs: dict[str, float]) -> Decision:
        draw = self._draw()
        inputs = inputs | {"draw": draw, "empty_audit_share": self._empty.audit_share}
        if draw < self._empty.audit_share:
            return Decision(Action.SEND_FRAME, Reason.EMPTY_AUDIT, expected_gain=gain, inputs=inputs)
        return Decision(Action.KEEP, Reason.EMPTY, expected_gain=gain, inputs=inputs)


BREAKER_LEVEL = {BreakerPhase.CLOSED: 0.0, BreakerPhase.HALF_OPEN: 0.5, BreakerPhase.OPEN: 1.0}
"""The breaker's phase as a decision's input `breaker`."""


_PUT_OFF: Mapping[str, Reason] = MappingProxyType(
    {Reason.AUDIT: Reason.AUDIT_PUT_OFF, Reason.REFRESH: Reason.REFRESH_PUT_OFF}
)
"""Nobody but chance or the clock wanted the cloud's answer: such a frame may stay, and is not degraded."""


class LinkGuard:
    """Turns another policy's "send" into "keep" or "spool" while the link cannot take the frame; says why.

    With `spool_from` a frame whose expected gain reaches it waits on the disk for a late answer, and so does
    every audit; without it nothing does.
    """

    def __init__(self, policy: Policy, spool_from: float | None = None) -> None:
        self._policy = policy
        self._spool_from = spool_from

    def decide(self, prediction: Prediction, context: Context) -> Decision:
        """Ask the inner policy, then the link."""
        decision = self._policy.decide(prediction, context)
        link = context.link
        inputs = decision.inputs | {"breaker": BREAKER_LEVEL[link.breaker]}
        if decision.action is Action.KEEP:
            return replace(decision, inputs=inputs)
        inputs |= {
            "time_left_s": context.time_left_s,
            "in_flight": link.in_flight,
            "max_in_flight": link.max_in_flight,
            "pushback_left_s": link.pushback_left_s,
            "breaker_allows": float(link.breaker_allows),
            "may_probe": float(link.view.may_probe),
            "bytes_in_flight": link.view.bytes_in_flight,
            "rtt_s": link.view.estimate.rtt_s,
            "rate_bytes_per_s": link.view.estimate.rate_bytes_per_s,
            "deviation_s": link.view.estimate.deviation_s,
            "server_queue_s": link.view.estimate.server_queue_s,
        }
        held_back = _obstacle(decision, context)
        if held_back and decision.reason in _PUT_OFF:
            reason = _PUT_OFF[decision.reason]
            return replace(decision, action=Action.KEEP, reason=reason, inputs=inputs)
        return replace(
            decision,
            action=self._instead(decision) if held_back else decision.action,
            reason=held_back or decision.reason,
            inputs=inputs,
        )

    def _instead(self, decision: Decision) -> Action:
        if self._spool_from is None:
            return Action.KEEP
        worth_it = decision.expected_gain >= self._spool_from or decision.reason == Reason.EMPTY_AUDIT
        return Action.SPOOL if worth_it else Action.KEEP


def _obstacle(decision: Decision, context: Context) -> Reason | None:
    """The first that forbids the call now."""
    link, left_s = context.link, context.time_left_s
    obstacles = {
        Reason.NO_TIME: left_s <= 0,
        Reason.PUSHBACK: link.pushback_left_s > 0,
        Reason.BREAKER_OPEN: not link.breaker_allows,
        Reason.IN_FLIGHT_CAP: link.in_flight >= link.max_in_flight,
        Reason.TOO_SLOW: decision.predicted_latency_s > left_s and not _probes(link),
        # The uplink pays for what leaves; this only spares it the encoding.
        Reason.OVER_BUDGET: decision.inputs.get("needed_bytes", 0.0) > link.tokens.left_bytes,
    }
    return next((reason for reason, forbids in obstacles.items() if forbids), None)


def _probes(link: LinkState) -> bool:
    """Whether a frame may leave to find out what the link is like now."""
    return link.breaker is not BreakerPhase.CLOSED or (link.view.may_probe and not link.in_flight)
