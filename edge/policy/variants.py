"""In which form a frame is sent: the quickest, by predicted latency, of those that are good enough."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from spillover.common.images import Region
from spillover.common.types import Action, Decision, Prediction
from spillover.edge.link.byte_budget import wire_bytes
from spillover.edge.link.state import PayloadOption
from spillover.edge.policy.base import NEEDS_WHOLE, Context, Policy

FIDELITY_TOLERANCE = 0.02
"""Options that keep this much less than the best are as good; the quickest of them is taken."""


def choose_payload(
    options: Sequence[PayloadOption], time_left_s: float, left_bytes: float = math.inf
) -> PayloadOption:
    """The quickest option among those that keep nearly as much as the best which is in time.

    `left_bytes` is what a byte budget has left; options that it does not cover count only if it covers none.
    When none is in time the quickest of all is taken: its answer may still come as a revision. An option that
    is due to be tried goes before quicker ones, but never before better ones, nor when it would be late.
    """
    options = [option for option in options if wire_bytes(option.payload_bytes) <= left_bytes] or options
    in_time = [option for option in options if option.latency_s <= time_left_s]
    if not in_time:
        return min(options, key=lambda option: option.latency_s)
    most = max(option.fidelity for option in in_time)
    good = [option for option in in_time if option.fidelity >= most - FIDELITY_TOLERANCE]
    return min(good, key=lambda option: (not option.due, option.latency_s))


class ChoosePayload:
    """Gives another policy's "send" its form. Where there is no choice, decisions pass as they are."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def decide(self, prediction: Prediction, context: Context) -> Decision:
        """Ask the inner policy, then choose; every option's predicted latency is among the inputs."""
        return in_form(self._policy.decide(prediction, context), context)


def in_form(decision: Decision, context: Context) -> Decision:
    """A decision to send with the form that suits the moment; any other as it is."""
    options = [
        option
        for option in context.link.view.options
        if option.action is not Action.SEND_CROPS or decision.reason not in NEEDS_WHOLE
    ]
    if decision.action is not Action.SEND_FRAME or not options:
        return decision
    chosen = choose_payload(options, context.time_left_s, context.link.tokens.left_bytes)
    return replace(
        decision,
        action=chosen.action,
        payload=chosen.name,
        expected_gain=decision.expected_gain * chosen.fidelity,
        predicted_latency_s=chosen.latency_s,
        inputs=decision.inputs | _option_inputs(options) | _cut(context.region),
    )


def _cut(region: Region | None) -> dict[str, float]:
    """Where a crop would be, in pixels of the frame."""
    return {f"crop.{side}": float(at) for side, at in region._asdict().items()} if region else {}


def logged_region(inputs: Mapping[str, float]) -> Region | None:
    """The region that a decision's inputs tell of."""
    if "crop.left" not in inputs:
        return None
    return Region(*(int(inputs[f"crop.{side}"]) for side in Region._fields))


def _option_inputs(options: Sequence[PayloadOption]) -> dict[str, float]:
    """What every form would have cost, and which was due to be tried: enough to choose again."""
    return (
        {f"latency_s.{option.name}": option.latency_s for option in options}
        | {f"payload_bytes.{option.name}": option.payload_bytes for option in options}
        | {f"due.{option.name}": 1.0 for option in options if option.due}
    )
