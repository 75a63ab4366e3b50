"""Sends a frame now and then, whatever another policy says: an answer to carry must be fresh."""

from dataclasses import replace

from spillover.common.types import Action, Decision, Prediction
from spillover.edge.policy.base import Context, Policy, Reason
from spillover.edge.policy.variants import in_form


class Refreshed:
    """Sends what another policy would keep where the cloud was last asked `refresh_s` seconds ago."""

    def __init__(self, policy: Policy, refresh_s: float) -> None:
        self._policy = policy
        self._refresh_s = refresh_s

    def decide(self, prediction: Prediction, context: Context) -> Decision:
        """Ask the inner policy, then the clock."""
        decision = self._policy.decide(prediction, context)
        since_last_offload_s = min(context.since_last_offload_s, NEVER_S)
        inputs = decision.inputs | {
            "since_last_offload_s": since_last_offload_s,
            "refresh_s": self._refresh_s,
        }
        if decision.action is not Action.KEEP or since_last_offload_s < self._refresh_s:
            return replace(decision, inputs=inputs)
        refreshed = replace(decision, action=Action.SEND_FRAME, reason=Reason.REFRESH, inputs=inputs)
        return in_form(refreshed, context)


NEVER_S = 1e9
"""In place of infinity, which JSON has not."""
