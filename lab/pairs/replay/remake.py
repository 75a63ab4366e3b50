"""Makes the decisions of a log again, from nothing but the numbers that each carries."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from spillover.common.types import Action, Decision
from spillover.edge.policy.base import NEEDS_WHOLE, Reason
from spillover.edge.policy.variants import logged_region
from spillover.edge.sinks.record import Record

_CHANCE = {Reason.AUDIT: Reason.AUDIT_PUT_OFF, Reason.REFRESH: Reason.REFRESH_PUT_OFF}
_BY_SCORE = (Reason.SCORE, Reason.MOTION, Reason.LOST_TRACK)
"""Which of these a decision tells is the larger of gains that are not logged one by one."""


@dataclass(frozen=True, slots=True)
class Remade:
    """How many decisions of mode `hybrid` there were, and the frames whose decision does not follow."""

    decisions: int
    different: tuple[str, ...]


def remake(records: Sequence[Record]) -> Remade:
    """Make again what the policy decided on; decisions by mode alone are passed over."""
    decided = [record for record in records if "threshold" in record.decision.inputs]
    different = [record.frame_id for record in decided if not follows(record.decision)]
    return Remade(len(decided), tuple(different))


def follows(decision: Decision) -> bool:
    """Whether action and reason are those that the rules of `edge.policy` make of the inputs."""
    told = decision.inputs
    wish = _wish(decision, told)
    if wish is None:
        return decision.action is Action.KEEP and decision.reason == _kept(told)
    if (obstacle := _obstacle(decision, told)) is None:
        return decision.reason == wish and _may_leave_so(decision)
    if wish in _CHANCE:
        return decision.action is Action.KEEP and decision.reason == _CHANCE[wish]
    return decision.action in {Action.KEEP, Action.SPOOL} and decision.reason == obstacle


def _may_leave_so(decision: Decision) -> bool:
    """A crop needs a region to be cut out, and a reason that does not ask for the whole frame."""
    if decision.action is Action.SEND_CROPS:
        return logged_region(decision.inputs) is not None and decision.reason not in NEEDS_WHOLE
    return decision.action not in {Action.KEEP, Action.SPOOL}


def _wish(decision: Decision, told: Mapping[str, float]) -> Reason | None:
    """Why the frame should be sent, before the link is asked; None keeps it."""
    if "score" not in told:
        by_score = None if told["draw"] >= told["empty_audit_share"] else Reason.EMPTY_AUDIT
    elif told["score"] < told["threshold"] or told.get("rank", 1.0) < told.get("needed_rank", 0.0):
        by_score = None
    else:
        by_score = next((reason for reason in _BY_SCORE if decision.reason == reason), Reason.SCORE)
    if by_score is not None:
        return by_score
    if told.get("since_last_offload_s", 0.0) >= told.get("refresh_s", 1.0):
        return Reason.REFRESH
    return Reason.AUDIT if told.get("audit_draw", 1.0) < told.get("audit_share", 0.0) else None


def _kept(told: Mapping[str, float]) -> Reason:
    """Why a frame stays that nothing would send."""
    if "score" not in told:
        return Reason.EMPTY
    return Reason.CONFIDENT if told["score"] < told["threshold"] else Reason.OUTRANKED


def _obstacle(decision: Decision, told: Mapping[str, float]) -> Reason | None:
    """The first that forbids the call, in the order of `edge.policy.rules`."""
    probes = told["breaker"] > 0 or (told["may_probe"] and not told["in_flight"])
    obstacles = {
        Reason.NO_TIME: told["time_left_s"] <= 0,
        Reason.PUSHBACK: told["pushback_left_s"] > 0,
        Reason.BREAKER_OPEN: not told["breaker_allows"],
        Reason.IN_FLIGHT_CAP: told["in_flight"] >= told["max_in_flight"],
        Reason.TOO_SLOW: decision.predicted_latency_s > told["time_left_s"] and not probes,
        Reason.OVER_BUDGET: told.get("needed_bytes", 0.0) > told.get("tokens_bytes", 0.0),
    }
    return next((reason for reason, forbids in obstacles.items() if forbids), None)
