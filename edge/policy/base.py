"""What the rules of the policy read and return: a context, a decision, and its reason."""

import enum
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from spillover.common.types import Action, Decision
from spillover.edge.inference.scene import UNSEEN, Surroundings
from spillover.edge.link.state import LinkState
from spillover.edge.tracking.stage import TrackSummary

NEVER_S = 1e9
"""Replaces infinity, which JSON does not have."""

Draw = Callable[[], float]
"""Returns the next random number, uniform in [0, 1). An argument, so that a run can be repeated."""


MostDrawn = Callable[[], float]
"""Returns the largest share of all frames that may be drawn at random and sent."""


def all_frames() -> float:
    """1: without a byte budget any share may be drawn."""
    return 1.0


class Reason(enum.StrEnum):
    """Why a frame is kept or sent. Logs and records contain these strings, so they must not change."""

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


UNRANKED = frozenset({Reason.MODE, Reason.EMPTY_AUDIT, Reason.AUDIT, Reason.REFRESH})
"""Reasons to send without a gain by which the frame could be ranked."""

PUT_OFF: Mapping[str, Reason] = MappingProxyType(
    {Reason.AUDIT: Reason.AUDIT_PUT_OFF, Reason.REFRESH: Reason.REFRESH_PUT_OFF}
)
"""Audits and refreshes are optional.

If the link blocks them, the frame is kept and not marked edge_degraded.
"""


@dataclass(frozen=True, slots=True)
class Context:
    """Everything that the rules read about one frame and its moment."""

    time_left_s: float
    """Seconds until the frame's deadline."""
    link: LinkState
    now_s: float = 0.0
    """Monotonic seconds, for rules that depend on time."""
    score: float | None = None
    """The scorer's score of the prediction; None if the prediction has nothing to score."""
    threshold: float | None = None
    """Set by audits; None means that the configured threshold applies."""
    surroundings: Surroundings = UNSEEN
    since_last_offload_s: float = math.inf
    """Age in seconds of the newest frame that was sent and whose answer corrects later frames."""
    tracks: TrackSummary | None = None
    """The tracks of the camera; None where nothing is tracked."""
    waits: bool = False
    """A frame of this camera was to be sent and could not be, and none has been sent since."""
    late_window_s: float = 0.0
    """How long after the deadline an answer is still accepted."""


class Rule(Protocol):
    """One step of the policy: takes the decision so far and returns it, changed or not.

    The same decision, context and draws give the same result; only rules that rank frames have state.
    """

    def __call__(self, decision: Decision, context: Context) -> Decision:
        """Apply the rule to one frame."""
        ...


def waits_after(decision: Decision, *, before: bool) -> bool:
    """Whether a frame of this camera waits to be sent after this decision; `before` it one did or did not."""
    if decision.action in {Action.KEEP, Action.SPOOL}:
        return before or decision.degraded or decision.reason == Reason.OUTRANKED
    return False
