"""Random audits: frames sent whatever the policy says, so that its mistakes can be counted without bias."""

from dataclasses import replace

from spillover.common.types import Action, Decision, Prediction
from spillover.edge.policy.base import Context, Draw, Policy, Reason
from spillover.edge.policy.variants import in_form


class Audited:
    """Marks a random share of all frames, and sends those of them that another policy would keep."""

    def __init__(self, policy: Policy, share: float, draw: Draw) -> None:
        self._policy = policy
        self._share = share
        self._draw = draw

    def decide(self, prediction: Prediction, context: Context) -> Decision:
        """Ask the inner policy, then draw."""
        decision = self._policy.decide(prediction, context)
        draw = self._draw()
        inputs = decision.inputs | {"audit_draw": draw, "audit_share": self._share}
        if draw >= self._share:
            return replace(decision, inputs=inputs)
        keeps = decision.action is Action.KEEP
        marked = replace(decision, inputs=inputs | {"audit": 1.0, "would_keep": float(keeps)})
        if not keeps:
            return marked
        return in_form(replace(marked, action=Action.SEND_FRAME, reason=Reason.AUDIT), context)
