"""Whether the link can take a frame now: the rule `LinkGuard`."""

from dataclasses import replace
from types import MappingProxyType

from spillover.common.types import Action, Decision
from spillover.edge.link.state import BreakerPhase, LinkState, PayloadOption
from spillover.edge.policy.base import PUT_OFF, Context, Reason
from spillover.edge.policy.tracks import track_inputs, useful_s

BREAKER_LEVEL = MappingProxyType(
    {BreakerPhase.CLOSED: 0.0, BreakerPhase.HALF_OPEN: 0.5, BreakerPhase.OPEN: 1.0}
)
"""The breaker's phase as the decision's input `breaker`."""


class LinkGuard:
    """Turns "send" into "keep" or "spool" while the link cannot take the frame, and gives the reason.

    Where objects are tracked, a frame may be sent although its answer will miss the frame's own deadline, if
    it is still useful to the frames that follow when it arrives.

    Without `forecast` nothing that recent calls say of the link holds a frame back: neither when its answer
    is expected, nor the breaker. Cap, deadline, the server's pushback and the budget do.

    With `spool_from`, frames whose expected gain reaches it wait in the spool for a late answer, as does
    every audit of an empty frame; without it no frame does.
    """

    def __init__(self, spool_from: float | None = None, *, forecast: bool = True) -> None:
        self._spool_from = spool_from
        self._forecast = forecast

    def __call__(self, decision: Decision, context: Context) -> Decision:
        """Let the frame pass, or hold it back for the first obstacle."""
        link = context.link
        inputs = decision.inputs | {"breaker": BREAKER_LEVEL[link.breaker]}
        if decision.action is Action.KEEP:
            return replace(decision, inputs=inputs)
        inputs |= self._inputs(context)
        obstacle = first_obstacle(decision, context, forecast=self._forecast)
        if obstacle is None:
            is_probe = self._forecast and link.breaker is not BreakerPhase.CLOSED
            is_expected_late = _expected_s(decision, context) > context.time_left_s
            late = self._forecast and context.tracks is not None and is_expected_late
            return replace(decision, is_probe=is_probe, serves_later=late, inputs=inputs)
        put_off = PUT_OFF.get(decision.reason)
        return replace(
            decision,
            action=Action.KEEP if put_off else self._instead(decision),
            reason=put_off or obstacle,
            degraded=not put_off,
            inputs=inputs,
        )

    def _inputs(self, context: Context) -> dict[str, float]:
        link, estimate = context.link, context.link.view.estimate
        inputs = {
            "time_left_s": context.time_left_s,
            "in_flight": link.in_flight,
            "max_in_flight": link.max_in_flight,
            "pushback_left_s": link.pushback_left_s,
            "breaker_allows": float(link.breaker_allows),
            "may_probe": float(link.view.may_probe),
            "rtt_s": estimate.rtt_s,
            "rate_bytes_per_s": estimate.rate_bytes_per_s,
            "backlog_s": estimate.backlog_s,
            "deviation_s": estimate.deviation_s,
            "deviations": estimate.deviations,
            "server_queue_s": estimate.server_queue_s,
        } | track_inputs(context)
        if not self._forecast:
            inputs["forecast"] = 0.0
        return inputs if self._spool_from is None else inputs | {"spool_from": self._spool_from}

    def _instead(self, decision: Decision) -> Action:
        if self._spool_from is None:
            return Action.KEEP
        worth_it = decision.expected_gain >= self._spool_from or decision.reason == Reason.EMPTY_AUDIT
        return Action.SPOOL if worth_it else Action.KEEP


def first_obstacle(decision: Decision, context: Context, *, forecast: bool = True) -> Reason | None:
    """The first reason why the call may not start now, by `forecast` too; None if there is none."""
    link, left_s = context.link, context.time_left_s
    obstacles = {
        Reason.NO_TIME: left_s <= 0,
        Reason.PUSHBACK: link.pushback_left_s > 0,
        Reason.BREAKER_OPEN: forecast and not link.breaker_allows,
        Reason.IN_FLIGHT_CAP: link.in_flight >= link.max_in_flight,
        Reason.TOO_SLOW: forecast and _comes_too_late(decision, context) and not _probes(link),
        # The uplink charges the budget; this check only avoids encoding in vain.
        Reason.OVER_BUDGET: decision.needed_bytes > link.tokens.left_bytes,
    }
    return next((reason for reason, forbids in obstacles.items() if forbids), None)


def _comes_too_late(decision: Decision, context: Context) -> bool:
    """Whether the answer is predicted to be late, and not useful all the same.

    A late answer is useful to tracks if it is not behind others: waiting until the link is free costs it
    nothing, and the frame that is sent then is a newer one. A camera sends when the answer before is due: one
    under way puts right most of what a second would, and round trip and rate are hard to tell apart where all
    pictures are alike.
    """
    if decision.predicted_latency_s <= context.time_left_s:
        return False
    within_s = useful_s(context.tracks, context.time_left_s, context.late_window_s)
    if context.tracks is None or decision.predicted_latency_s > within_s:
        return True
    option = _chosen_option(decision, context)
    is_behind = option is not None and context.link.view.estimate.backlog_s > option.encode_s
    return is_behind or context.since_last_offload_s < decision.predicted_latency_s


def _expected_s(decision: Decision, context: Context) -> float:
    """When the answer is expected, without the margin of the prediction; 0 if no form is known."""
    option = _chosen_option(decision, context)
    if option is None:
        return 0.0
    estimate = context.link.view.estimate
    return estimate.expected_s(option.payload_bytes, option.encode_s, option.server_s)


def _chosen_option(decision: Decision, context: Context) -> PayloadOption | None:
    options = context.link.view.options
    return next((option for option in options if option.name == decision.payload), None)


def _probes(link: LinkState) -> bool:
    """Whether a frame may be sent to measure the link again: alone, unless the link is down."""
    return link.view.may_probe and (link.breaker is not BreakerPhase.CLOSED or not link.in_flight)
