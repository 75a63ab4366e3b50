"""In which form a frame is sent: the rule `ChoosePayload`, which other rules that send a frame use too."""

import math
from collections.abc import Sequence
from dataclasses import replace

from spillover.common.types import Action, Decision
from spillover.edge.link.byte_budget import wire_bytes
from spillover.edge.link.state import PayloadOption
from spillover.edge.policy.base import Context, Reason
from spillover.edge.policy.budget import needed_bytes
from spillover.edge.policy.tracks import useful_s

FIDELITY_TOLERANCE = 0.02
"""Options whose fidelity is this close to the best count as equal; the quickest of them is chosen."""
REFRESH_TOLERANCE = 0.1
"""Options that keep so much less of the cloud's answers than the best are good enough to refresh tracks."""


class ChoosePayload:
    """Chooses the form in which a frame is sent: the quickest that is good enough and in time.

    Where objects are tracked, the smallest one: the bytes that it saves are worth a further frame.
    """

    def __call__(self, decision: Decision, context: Context) -> Decision:
        """Choose a form for a frame that is to be sent; return any other decision unchanged."""
        return in_form(decision, context)


def in_form(decision: Decision, context: Context) -> Decision:
    """A decision to send, with the form that suits the moment; any other decision unchanged."""
    options = context.link.view.options
    if decision.action is not Action.SEND_FRAME or not options:
        return decision
    tokens = context.link.tokens
    if context.tracks is None or decision.reason == Reason.MODE:
        chosen = choose_payload(options, context.time_left_s, tokens.left_bytes)
    else:
        within_s = useful_s(context.tracks, context.time_left_s, context.late_window_s)
        chosen = smallest_payload(options, within_s, tokens.bucket_bytes)
    inputs = decision.inputs | {"time_left_s": context.time_left_s} | _option_inputs(options)
    needed = needed_bytes(chosen, tokens)
    # A frame that was outranked had a form before, whose fidelity its gain holds; its score does not.
    gain = decision.expected_gain if decision.score is None else decision.score
    return replace(
        decision,
        action=chosen.action,
        payload=chosen.name,
        expected_gain=gain * chosen.fidelity,
        predicted_latency_s=chosen.latency_s,
        needed_bytes=needed,
        inputs=inputs,
    )


def choose_payload(
    options: Sequence[PayloadOption], time_left_s: float, left_bytes: float = math.inf
) -> PayloadOption:
    """The quickest option among those in time whose fidelity is close to the best of them.

    `left_bytes` is the balance of the byte budget; options that exceed it only count if all do. If no option
    is in time, the quickest one is chosen: its answer may still come as a revision. An option that is due to
    be tried precedes quicker ones, but not options of higher fidelity, and never when it would be late.
    """
    options = [option for option in options if wire_bytes(option.payload_bytes) <= left_bytes] or options
    in_time = [option for option in options if option.latency_s <= time_left_s]
    if not in_time:
        return min(options, key=lambda option: option.latency_s)
    most = max(option.fidelity for option in in_time)
    good = [option for option in in_time if option.fidelity >= most - FIDELITY_TOLERANCE]
    return min(good, key=lambda option: (not option.due, option.latency_s))


def smallest_payload(
    options: Sequence[PayloadOption], within_s: float, bucket_bytes: float = math.inf
) -> PayloadOption:
    """The smallest option among those that keep nearly as much as the best; for refreshing tracks.

    Only options that the byte budget's bucket can hold, and whose answer comes within `within_s`, count; if
    there is none, all do.
    """
    options = [option for option in options if wire_bytes(option.payload_bytes) <= bucket_bytes] or options
    options = [option for option in options if option.latency_s <= within_s] or options
    most = max(option.fidelity for option in options)
    good = [option for option in options if option.fidelity >= most - REFRESH_TOLERANCE]
    return min(good, key=lambda option: option.payload_bytes)


def _option_inputs(options: Sequence[PayloadOption]) -> dict[str, float]:
    """Every number of every form, so that the choice can be replayed; flags only where they are set."""
    inputs: dict[str, float] = {}
    for option in options:
        name = option.name
        inputs[f"latency_s.{name}"] = option.latency_s
        inputs[f"payload_bytes.{name}"] = option.payload_bytes
        inputs[f"encode_s.{name}"] = option.encode_s
        inputs[f"server_s.{name}"] = option.server_s
        inputs[f"fidelity.{name}"] = option.fidelity
        if option.action is not Action.SEND_FRAME:
            inputs[f"is_features.{name}"] = 1.0
        if option.extra_bytes:
            inputs[f"extra_bytes.{name}"] = option.extra_bytes
        if not option.measured:
            inputs[f"is_guess.{name}"] = 1.0
        if option.due:
            inputs[f"due.{name}"] = 1.0
    return inputs
