"""The rules that say which frames are sent, and the list that fixes the order of all rules.

Those on form, byte budget and link have files of their own: `forms`, `budget` and `guard`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from spillover.common.types import Action, AuditMark, Decision, Prediction
from spillover.edge.inference.scene import Surroundings
from spillover.edge.policy.base import NEVER_S, Context, Draw, MostDrawn, Reason, Rule, all_frames
from spillover.edge.policy.budget import RankByBudget
from spillover.edge.policy.forms import ChoosePayload, in_form
from spillover.edge.policy.guard import LinkGuard
from spillover.edge.policy.share import Threshold, Thresholds
from spillover.edge.policy.tracks import LONGEST_S, track_inputs, value

FULL_MOTION = 0.05
"""Share of the picture that must change for motion to give its full gain."""


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

    With `by_tracks` the score of a camera whose objects are tracked is what the answer is worth to them.
    """

    def __init__(
        self,
        thresholds: Thresholds,
        empty: EmptyRules,
        draw: Draw,
        most_drawn: MostDrawn = all_frames,
        *,
        by_tracks: bool = False,
    ) -> None:
        self._thresholds = thresholds
        self._empty = empty
        self._draw = draw
        self._most_drawn = most_drawn
        self._by_tracks = by_tracks

    def __call__(self, decision: Decision, context: Context) -> Decision:
        """Send by score; without a score, send a random share."""
        score, inputs = self._score(context)
        alarms = self._alarms(context, score)
        total = (score or 0.0) + sum(alarms.values())
        threshold = self._threshold(total, context)
        inputs |= _threshold_inputs(threshold) | self._empty_inputs(context.surroundings)
        inputs = decision.inputs | inputs
        if score is None and not (alarms and threshold.passes(total)):
            return self._audit(replace(decision, expected_gain=total, inputs=inputs))
        inputs["score"] = total
        action, reason = Action.KEEP, Reason.CONFIDENT
        if threshold.passes(total):
            by_itself = score is not None and score >= threshold.score
            action = Action.SEND_FRAME
            reason = Reason.SCORE if by_itself or not alarms else max(alarms, key=lambda key: alarms[key])
        return replace(
            decision, action=action, reason=reason, score=total, expected_gain=total, inputs=inputs
        )

    def _score(self, context: Context) -> tuple[float | None, dict[str, float]]:
        """The score without alarms, and the numbers that it is computed from."""
        if not self._by_tracks or context.tracks is None:
            score = context.score
            return score, {} if score is None else {"prediction_score": score}
        since_s = min(context.since_last_offload_s, NEVER_S)
        flags = {"by_tracks": 1.0, "waits": float(context.waits)}
        return value(context.tracks, since_s), track_inputs(context) | flags

    def _threshold(self, total: float, context: Context) -> Threshold:
        if context.threshold is not None:
            return Threshold(context.threshold)
        # Values of tracks grow while nothing can be sent: to learn them would keep the link idle after that.
        learns = not (context.waits and self._by_tracks and context.tracks is not None)
        return self._thresholds.for_frame(total, learns=learns)

    def _alarms(self, context: Context, score: float | None) -> dict[Reason, float]:
        """Gains of a frame without reported boxes, by their reason; by tracks, of one without any track."""
        seen, weight = context.surroundings, 1.0
        if self._by_tracks and context.tracks is not None:
            if score is not None:
                return {}
            weight = min(context.since_last_offload_s, LONGEST_S)
        if not seen.empty:
            return {}
        gains = {
            Reason.MOTION: weight * self._empty.motion_gain * min(1.0, seen.motion / FULL_MOTION),
            Reason.LOST_TRACK: weight * self._empty.lost_track_gain * seen.lost_track,
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
