"""The policies: always keep, always send, send by score; and the guard that asks the link."""

from common.types import Action, Decision, Prediction
from edge.policy.base import Context, Draw, Policy, Reason
from edge.policy.scores import Scorer, ScoreSettings


class Fixed:
    """Modes `edge_only` and `cloud_only`: one action for every frame."""

    def __init__(self, action: Action) -> None:
        self._decision = Decision(action, Reason.MODE)

    def decide(self, prediction: Prediction, context: Context) -> Decision:
        """Give the same decision whatever is seen."""
        del prediction, context
        return self._decision


class ScoreThreshold:
    """Sends frames whose score reaches the threshold.

    Where the scorer finds nothing to judge by (a detector saw no objects), a random share is sent all the
    same: a missed object leaves no box behind that a score could be computed from.
    """

    def __init__(
        self, scorer: Scorer, settings: ScoreSettings, threshold: float, empty_audit_share: float, draw: Draw
    ) -> None:
        self._scorer = scorer
        self._settings = settings
        self._threshold = threshold
        self._empty_audit_share = empty_audit_share
        self._draw = draw

    def decide(self, prediction: Prediction, context: Context) -> Decision:
        """Send by score; audit when empty."""
        del context
        score = self._scorer(prediction, self._settings)
        if score is None:
            return self._audit()
        inputs = {"score": score, "threshold": self._threshold}
        if score >= self._threshold:
            return Decision(Action.SEND_FRAME, Reason.SCORE, expected_gain=score, inputs=inputs)
        return Decision(Action.KEEP, Reason.CONFIDENT, expected_gain=score, inputs=inputs)

    def _audit(self) -> Decision:
        draw = self._draw()
        inputs = {"draw": draw, "empty_audit_share": self._empty_audit_share}
        if draw < self._empty_audit_share:
            return Decision(Action.SEND_FRAME, Reason.EMPTY_AUDIT, inputs=inputs)
        return Decision(Action.KEEP, Reason.EMPTY, inputs=inputs)


class LinkGuard:
    """Turns another policy's "send" into "keep" while the link cannot take the frame, and says why."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def decide(self, prediction: Prediction, context: Context) -> Decision:
        """Ask the inner policy, then the link."""
        decision = self._policy.decide(prediction, context)
        if decision.action is Action.KEEP:
            return decision
        link = context.link
        inputs = decision.inputs | {
            "time_left_s": context.time_left_s,
            "in_flight": link.in_flight,
            "max_in_flight": link.max_in_flight,
            "pushback_left_s": link.pushback_left_s,
        }
        held_back = _obstacle(context)
        return Decision(
            Action.KEEP if held_back else decision.action,
            held_back or decision.reason,
            decision.expected_gain,
            decision.predicted_latency_s,
            inputs,
        )


def _obstacle(context: Context) -> Reason | None:
    if context.time_left_s <= 0:
        return Reason.NO_TIME
    if context.link.pushback_left_s > 0:
        return Reason.PUSHBACK
    if context.link.in_flight >= context.link.max_in_flight:
        return Reason.IN_FLIGHT_CAP
    return None
