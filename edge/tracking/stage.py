"""The temporal stage: what earlier frames and the cloud's answers to them make of the edge's prediction."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from spillover.common.types import NO_BOXES, Detections, Image, Prediction, TrackMark
from spillover.edge.tracking.steps import TrackStep
from spillover.edge.uplink.outcome import CallOutcome


@dataclass(frozen=True, slots=True)
class TrackSummary:
    """What the policy reads of a camera's tracks at one frame. All numbers, so that a log can replay them."""

    shown: int = 0
    """Tracks that the local result shows."""
    stale: float = 0.0
    """Expected number of shown tracks that the cloud would no longer confirm as they stand."""
    births: int = 0
    """Tracks begun since the newest sent frame, shown or not."""
    deaths: int = 0
    """Tracks ended since then inside the picture."""
    flow_failures: int = 0
    """Tracks whose points were lost since then."""
    doubtful: float = 0.0
    """Expected number of wrong choices, to show or to hide, among tracks that only the edge has seen."""
    half_life_s: float = math.inf
    """Seconds in which half of the cloud's boxes cease to be right, as measured; infinite until measured."""
    fresh: bool = False
    """The frame is the first of its scene: nothing was carried to it."""


NO_TRACKS = TrackSummary()
"""Of a frame that was not tracked."""


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """The local result of a frame."""

    prediction: Prediction
    carried_from: str = ""
    """Id of the newest frame whose cloud answer went into it; empty: none did."""
    tracks: tuple[TrackMark, ...] | None = None
    """One a box of `prediction`, in its order; None where nothing is tracked."""
    ended: tuple[int, ...] = ()
    """Numbers of the tracks that ended with this frame."""
    summary: TrackSummary = NO_TRACKS
    followed: Detections = NO_BOXES
    """Boxes of all living tracks, shown or not: where objects may be, though nobody sees them now."""
    step: TrackStep | None = None
    """What made the tracks; None where nothing is tracked."""


@dataclass(frozen=True, slots=True)
class TrackingCounts:
    """What a camera's tracker has done."""

    shown: int
    """Tracks that the newest result shows."""
    cuts: int
    """Scenes that ended because the picture shared nothing with the one before, or had another size."""
    dropped: Mapping[str, int]
    """What was left out, by reason."""


OnReply = Callable[[CallOutcome], CallOutcome]
"""Takes the outcome of one frame's call, once, on any thread; gives it back, with the tracks of its boxes."""


class TemporalStage(Protocol):
    """Corrects the edge's answers with the cloud's earlier ones. One a camera; thread-safe."""

    def since_last_offload_s(self, captured_s: float) -> float:
        """Age in seconds of the newest frame that was answered or is in flight; infinite without one."""
        ...

    def correct(self, prediction: Prediction, image: Image, captured_s: float) -> Shown:
        """The result for a frame captured at `captured_s` (monotonic).

        Call it once for every frame, in order; the policy decides on the frame after that.
        """
        ...

    def sent(self, frame_id: str, captured_s: float, prediction: Prediction) -> OnReply:
        """Note that the newest frame is sent; the returned function must get its outcome, even a late one."""
        ...

    def counts(self) -> TrackingCounts | None:
        """What it has tracked so far; None where nothing is tracked."""
        ...


class NoCorrection:
    """Shows the edge's answers unchanged."""

    def since_last_offload_s(self, captured_s: float) -> float:
        """Infinite, because no cloud answer is kept."""
        del captured_s
        return math.inf

    def correct(self, prediction: Prediction, image: Image, captured_s: float) -> Shown:
        """The prediction unchanged, corrected by no frame."""
        del image, captured_s
        return Shown(prediction)

    def sent(self, frame_id: str, captured_s: float, prediction: Prediction) -> OnReply:
        """A function that passes the outcome on."""
        del frame_id, captured_s, prediction
        return _unchanged

    def counts(self) -> None:
        """Nothing is tracked."""


def _unchanged(outcome: CallOutcome) -> CallOutcome:
    return outcome
