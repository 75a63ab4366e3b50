"""What the rules of the policy read and give back: a context, a decision, and the reasons for it."""

import enum
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from spillover.common.types import Decision, Region
from spillover.edge.inference.scene import UNSEEN, Surroundings
from spillover.edge.link.state import LinkState

Draw = Callable[[], float]
"""Gives the next random number, uniform in [0, 1). Handed in, so that a run can be repeated."""


class Reason(enum.StrEnum):
    """Why a frame is kept or sent; these strings are in logs and records, so they stay as they are."""

    MODE = "mode"
    SCORE = "score>=threshold"
    CONFIDENT = "confident"
    EMPTY = "empty"
    EMPTY_AUDIT = "empty-audit"
    AUDIT = "audit"
    AUDIT_PUT_OFF = "audit put off"
    REFRESH = "refresh"
    REFRESH_PUT_OFF = "refresh put off"
    MOTION = "motion"
    LOST_TRACK = "lost track"
    NO_TIME = "no time left"
    IN_FLIGHT_CAP = "in-flight cap"
    PUSHBACK = "pushback"
    BREAKER_OPEN = "breaker open"
    TOO_SLOW = "link too slow"
    OVER_BUDGET = "over budget"
    OUTRANKED = "outranked"


NEEDS_WHOLE = frozenset({Reason.AUDIT, Reason.EMPTY_AUDIT, Reason.MOTION, Reason.LOST_TRACK})
"""Such a frame is sent for what the edge may have missed, so a crop around what it saw is not enough."""

UNRANKED = frozenset({Reason.MODE, Reason.EMPTY_AUDIT, Reason.AUDIT, Reason.REFRESH})
"""Reasons to send that have no gain to rank by."""

PUT_OFF: Mapping[str, Reason] = MappingProxyType(
    {Reason.AUDIT: Reason.AUDIT_PUT_OFF, Reason.REFRESH: Reason.REFRESH_PUT_OFF}
)
"""Only chance or the clock asked for the cloud here: the frame may stay, and its result is not degraded."""


@dataclass(frozen=True, slots=True)
class Context:
    """Everything that the rules read about one frame and its moment."""

    time_left_s: float
    """Until the frame's deadline."""
    link: LinkState
    now_s: float = 0.0
    """Monotonic seconds, for rules that count by time."""
    score: float | None = None
    """What the scorer makes of the prediction; None where it has nothing to judge by."""
    threshold: float | None = None
    """Set by audits; None leaves it to the configuration."""
    surroundings: Surroundings = UNSEEN
    region: Region | None = None
    """What a crop would show of the frame; None where no crop can be sent."""
    since_last_offload_s: float = math.inf
    """Age of the newest frame that was sent and whose answer corrects the frames after it."""


class Rule(Protocol):
    """One step of the policy: takes the decision so far, and returns it unchanged or changed.

    The same decision, context and draws give the same result; a rule that ranks frames has state of its own.
    """

    def __call__(self, decision: Decision, context: Context) -> Decision:
        """Apply the rule to one frame."""
        ...
