"""The rules of the policy, and at the end the list that fixes their order.

Only ranking by budget has a file of its own, `edge.policy.budget`.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from spillover.common.types import Action, AuditMark, Decision, Prediction
from spillover.edge.inference.scene import Surroundings
from spillover.edge.link.byte_budget import wire_bytes
from spillover.edge.link.state import BreakerPhase, LinkState, PayloadOption
from spillover.edge.policy.base import (
    NEEDS_WHOLE,
    PUT_OFF,
    Context,
    Draw,
    MostDrawn,
    Reason,
    Rule,
    all_frames,
)
from spillover.edge.policy.budget import RankByBudget, needed_bytes
from spillover.edge.policy.share import Threshold, Thresholds

FULL_MOTION = 0.05
"""Share of the picture that must change for motion to give its full gain."""
FIDELITY_TOLERANCE = 0.02
"""Options whose fidelity is this close to the best count as equal; the quickest of them is chosen."""
NEVER_S = 1e9
"""Replaces infinity, which JSON does not have."""
BREAKER_LEVEL = MappingProxyType(
    {BreakerPhase.CLOSED: 0.0, BreakerPhase.HALF_OPEN: 0.5, BreakerPhase.OPEN: 1.0}
)
"""The breaker's phase as the decision's input `breaker`."""


@dataclass(frozen=True, slots=True)
class EmptyRules:
    """How frames without reported boxes are treated; see `edge.config.PolicyConfig`."""

    audit_share: float = 0.0
    motion_gain: float = 0.0
    lost_track_gain: float = 0.0


class ScoreThreshold:
    """Sends frames whose score reaches the threshold: that of `thresholds`, or of audits that adapt it.

    A missed object leaves no box from which a score could be computed. So a frame without reported boxes
    gains by motion in the scene and by recently lost objects; if there is nothing to score, a random share is
    sent.
    """

    def __init__(
        self, thresholds: Thresholds, empty: EmptyRules, draw: Draw, most_drawn: MostDrawn = all_frames
    ) -> None:
        self._thresholds = thresholds
        self._empty = empty
        self._draw = draw
        self._most_drawn = most_drawn

    def __call__(self, decision: Decision, context: Context) -> Decision:
        """Send by score; without a score, send a random share."""
        alarms = self._alarms(context.surroundings)
        total = (context.score or 0.0) + sum(alarms.values())
        threshold = self._threshold(total, context)
        inputs = decision.inputs | _threshold_inputs(threshold) | self._empty_inputs(context.surroundings)
        if context.score is not None:
            inputs["prediction_score"] = context.score
        elif not alarms or not threshold.passes(total):
            return self._audit(replace(decision, expected_gain=total, inputs=inputs))
        inputs["score"] = total
        action, reason = Action.KEEP, Reason.CONFIDENT
        if threshold.passes(total):
            by_itself = context.score is not None and context.score >= threshold.score
            action = Action.SEND_FRAME
            reason = Reason.SCORE if by_itself or not alarms else max(alarms, key=lambda key: alarms[key])
        return replace(
            decision, action=action, reason=reason, score=total, expected_gain=total, inputs=inputs
        )

    def _threshold(self, total: float, context: Context) -> Threshold:
        if context.threshold is not None:
            return Threshold(context.threshold)
        return self._thresholds.for_frame(total)

    def _alarms(self, seen: Surroundings) -> dict[Reason, float]:
        """Gains of a frame without reported boxes, by their reason."""
        if not seen.empty:
            return {}
        gains = {
            Reason.MOTION: self._empty.motion_gain * min(1.0, seen.motion / FULL_MOTION),
            Reason.LOST_TRACK: self._empty.lost_track_gain * seen.lost_track,
        }
        return {reason: gain for reason, gain in gains.items() if gain > 0}

    def _empty_inputs(self, seen: Surroundings) -> dict[str, float]:
        if not seen.empty:
            return {}
        return {
            "motion": seen.motion,
            "motion_gain": self._empty.motion_gain,
            "lost_track": float(seen.lost_track),
            "lost_track_gain": self._empty.lost_track_gain,
        }

    def _audit(self, decision: Decision) -> Decision:
        draw, share = self._draw(), min(self._empty.audit_share, self._most_drawn())
        inputs = decision.inputs | {"draw": draw, "empty_audit_share": share}
        if draw < share:
            return replace(decision, action=Action.SEND_FRAME, reason=Reason.EMPTY_AUDIT, inputs=inputs)
        return replace(decision, action=Action.KEEP, reason=Reason.EMPTY, inputs=inputs)


def _threshold_inputs(threshold: Threshold) -> dict[str, float]:
    if threshold.tie_credit is None:
        return {"threshold": threshold.score}
    return {"threshold": threshold.score, "tie_credit": threshold.tie_credit}


class ChoosePayload:
    """Chooses the form in which a frame is sent: the quickest that is good enough and in time."""

    def __call__(self, decision: Decision, context: Context) -> Decision:
        """Choose a form for a frame that is to be sent; return any other decision unchanged."""
        return in_form(decision, context)


def in_form(decision: Decision, context: Context) -> Decision:
    """A decision to send, with the form that suits the moment; any other decision unchanged."""
    everything = context.link.view.options
    whole = decision.reason in NEEDS_WHOLE
    options = [option for option in everything if not (whole and option.action is Action.SEND_CROPS)]
    if decision.action is not Action.SEND_FRAME or not options:
        return decision
    tokens = context.link.tokens
    chosen = choose_payload(options, context.time_left_s, tokens.left_bytes)
    inputs = decision.inputs | {"time_left_s": context.time_left_s} | _option_inputs(everything)
    needed = needed_bytes(chosen, tokens)
    # A frame that was outranked had a form before, whose fidelity its gain holds; its score does not.
    gain = decision.expected_gain if decision.score is None else decision.score
    return replace(
        decision,
        action=chosen.action,
        payload=chosen.name,
        region=context.region if chosen.action is Action.SEND_CROPS else None,
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
            kind = "is_crop" if option.action is Action.SEND_CROPS else "is_features"
            inputs[f"{kind}.{name}"] = 1.0
        if not option.measured:
            inputs[f"is_guess.{name}"] = 1.0
        if option.due:
            inputs[f"due.{name}"] = 1.0
    return inputs


class Refresh:
    """Sends a frame that would be kept once the newest sent frame is `refresh_s` seconds old.

    A cloud answer that corrects later frames has to be fresh.
    """

    def __init__(self, refresh_s: float) -> None:
        self._refresh_s = refresh_s

    def __call__(self, decision: Decision, context: Context) -> Decision:
        """Send if the newest sent frame is too old."""
        since_s = min(context.since_last_offload_s, NEVER_S)
        inputs = decision.inputs | {"since_last_offload_s": since_s, "refresh_s": self._refresh_s}
        if decision.action is not Action.KEEP or since_s < self._refresh_s:
            return replace(decision, inputs=inputs)
        refreshed = replace(decision, action=Action.SEND_FRAME, reason=Reason.REFRESH, inputs=inputs)
        return in_form(refreshed, context)


class Audit:
    """Marks a random share of all frames, and sends those of them that would be kept.

    The draw does not depend on what other rules say of the frame, so it gives an unbiased estimate of the
    edge's error rate.
    """

    def __init__(self, share: float, draw: Draw, most_drawn: MostDrawn = all_frames) -> None:
        self._share = share
        self._draw = draw
        self._most_drawn = most_drawn

    def __call__(self, decision: Decision, context: Context) -> Decision:
        """Draw; mark and send the frame if it is drawn."""
        draw, share = self._draw(), min(self._share, self._most_drawn())
        decision = replace(decision, inputs=decision.inputs | {"audit_draw": draw, "audit_share": share})
        if draw >= share:
            return decision
        keeps = decision.action is Action.KEEP
        marked = replace(decision, audit=AuditMark(would_keep=keeps))
        if not keeps:
            return marked
        return in_form(replace(marked, action=Action.SEND_FRAME, reason=Reason.AUDIT), context)


class LinkGuard:
    """Turns "send" into "keep" or "spool" while the link cannot take the frame, and gives the reason.

    With `spool_from`, frames whose expected gain reaches it wait in the spool for a late answer, as does
    every audit of an empty frame; without it no frame does.
    """

    def __init__(self, spool_from: float | None = None) -> None:
        self._spool_from = spool_from

    def __call__(self, decision: Decision, context: Context) -> Decision:
        """Let the frame pass, or hold it back for the first obstacle."""
        link = context.link
        inputs = decision.inputs | {"breaker": BREAKER_LEVEL[link.breaker]}
        if decision.action is Action.KEEP:
            return replace(decision, inputs=inputs)
        inputs |= self._inputs(context)
        obstacle = first_obstacle(decision, context)
        if obstacle is None:
            return replace(decision, is_probe=link.breaker is not BreakerPhase.CLOSED, inputs=inputs)
        put_off = PUT_OFF.get(decision.reason)
        return replace(
            decision,
            action=Action.KEEP if put_off else self._instead(decision),
            reason=put_off or obstacle,
            region=None,
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
        }
        return inputs if self._spool_from is None else inputs | {"spool_from": self._spool_from}

    def _instead(self, decision: Decision) -> Action:
        if self._spool_from is None:
            return Action.KEEP
        worth_it = decision.expected_gain >= self._spool_from or decision.reason == Reason.EMPTY_AUDIT
        return Action.SPOOL if worth_it else Action.KEEP


def first_obstacle(decision: Decision, context: Context) -> Reason | None:
    """The first reason why the call may not start now; None if there is none."""
    link, left_s = context.link, context.time_left_s
    obstacles = {
        Reason.NO_TIME: left_s <= 0,
        Reason.PUSHBACK: link.pushback_left_s > 0,
        Reason.BREAKER_OPEN: not link.breaker_allows,
        Reason.IN_FLIGHT_CAP: link.in_flight >= link.max_in_flight,
        Reason.TOO_SLOW: decision.predicted_latency_s > left_s and not _probes(link),
        # The uplink charges the budget; this check only avoids encoding in vain.
        Reason.OVER_BUDGET: decision.needed_bytes > link.tokens.left_bytes,
    }
    return next((reason for reason, forbids in obstacles.items() if forbids), None)


def _probes(link: LinkState) -> bool:
    """Whether a frame may be sent to measure the link again: alone, unless the link is down."""
    return link.view.may_probe and (link.breaker is not BreakerPhase.CLOSED or not link.in_flight)


ORDER: tuple[type[Rule], ...] = (
    ScoreThreshold,  # is the cloud's answer likely to be better
    ChoosePayload,  # in which form would the frame be sent
    RankByBudget,  # do other frames gain more per byte of the budget
    Refresh,  # is the last answer that corrects later frames too old
    Audit,  # is the frame drawn for an audit
    LinkGuard,  # can the link take it now
)
"""The order of the rules, defined only here. Daemon, replay and simulated edges all use it."""

KEEP_ALL = Decision(Action.KEEP, Reason.MODE)
SEND_ALL = Decision(Action.SEND_FRAME, Reason.MODE)
"""The decision before the first rule in some modes: `edge_only` has no rules, `cloud_only` no score."""


def no_score(prediction: Prediction) -> None:
    """None, for modes that decide without a score."""
    del prediction


class Policy:
    """Decides on one frame at a time: `start`, changed by each of `rules` in `ORDER`.

    `score` maps a prediction to how much the cloud's answer could add, or None; the rules themselves see only
    numbers.

    Raises:
        ValueError: a rule is not one of `ORDER`.
    """

    def __init__(
        self,
        start: Decision,
        rules: Iterable[Rule],
        score: Callable[[Prediction], float | None] = no_score,
    ) -> None:
        self._start = start
        self._rules = sorted(rules, key=lambda rule: ORDER.index(type(rule)))
        self.score = score

    def decide(self, context: Context) -> Decision:
        """Keep or send, and why.

        Called for every frame, because ranking rules also learn from kept frames.
        """
        decision = self._start
        for rule in self._rules:
            decision = rule(decision, context)
        return decision
