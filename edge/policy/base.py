"""What a policy is: a prediction and what is known of the moment go in, a decision comes out."""

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from spillover.common.images import Region
from spillover.common.types import Decision, Prediction
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


HELD_BACK = frozenset(
    {
        Reason.NO_TIME,
        Reason.IN_FLIGHT_CAP,
        Reason.PUSHBACK,
        Reason.BREAKER_OPEN,
        Reason.TOO_SLOW,
        Reason.OVER_BUDGET,
    }
)
"""The policy wanted the cloud's answer and the moment forbade it: such a frame's result is EDGE_DEGRADED."""

NEEDS_WHOLE = frozenset({Reason.AUDIT, Reason.EMPTY_AUDIT, Reason.MOTION, Reason.LOST_TRACK})
"""What such frames are sent for is what the edge may have missed: a crop around what it saw will not tell."""

UNRANKED = frozenset({Reason.MODE, Reason.EMPTY_AUDIT, Reason.AUDIT, Reason.REFRESH})
"""Reasons to send that have no gain to rank by."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a policy may know of the moment besides the prediction."""

    time_left_s: float
    """Until the frame's deadline."""
    link: LinkState
    now_s: float = 0.0
    """Monotonic seconds, for rules that count by time."""
    threshold: float | None = None
    """Moved by audits; None is the configuration's."""
    surroundings: Surroundings = UNSEEN
    region: Region | None = None
    """What a crop would show of the frame; None where none is to be cut."""
    since_last_offload_s: float = math.inf
    """Age of the newest frame that the cloud was asked about, where its answer is carried."""


class Policy(Protocol):
    """Decides on one frame. The same inputs and draws give the same decision."""

    def decide(self, prediction: Prediction, context: Context) -> Decision:
        """Keep or send, and why."""
        ...
