"""Which tracks are shown: what the cloud's answers have taught of tracks like them."""

from spillover.edge.tracking.association import overlaps
from spillover.edge.tracking.boxes import xyxy_of
from spillover.edge.tracking.learned import (
    PRIOR_NEW,
    PRIOR_SURE,
    Key,
    Learned,
    age_bin,
    confidence_bin,
)
from spillover.edge.tracking.values import Box, Track, TrackerState

SHOW_FROM = 0.5
"""A track is shown if the cloud is expected to confirm it at least so often."""
RIGHT_IOU = 0.5
"""A carried box is right if the next answer's box overlaps it by this."""
PRIOR_DENIED = (1.0, 3.0)
"""Confirmed and denied, of tracks that the newest answer did not have."""

_PRIORS = {"sure": PRIOR_SURE, "new": PRIOR_NEW, "denied": PRIOR_DENIED}


def kind_of(track: Track, now_s: float) -> Key:
    """What kind of track it is at a frame captured at `now_s`, before an answer for that frame."""
    if track.confirmed:
        return "sure", age_bin(now_s - track.edge_s)
    seen = track.edge_box >= 0
    return "denied" if track.denied else "new", confidence_bin(track.edge_confidence) * 2 + seen


def judged(learned: Learned, track: Track, box: Box | None, captured_s: float) -> Learned:
    """What is known after an answer for a frame on which there was this track; `box` is its box there."""
    learned = learned.observed(kind_of(track, captured_s), confirmed=box is not None)
    if not track.confirmed:
        return learned
    right = box is not None and float(overlaps([track.xyxy], [xyxy_of(box)])[0, 0]) >= RIGHT_IOU
    return learned.survived(captured_s - track.cloud_s, right=right)


def expected(state: TrackerState, track: Track) -> float:
    """Expected share of tracks like this one that the cloud would confirm on this frame."""
    key = kind_of(track, state.captured_s)
    return state.learned.share(key, _PRIORS[key[0]])


def is_shown(state: TrackerState, track: Track, edge_confidence: float) -> bool:
    """Whether the result shows the track; `edge_confidence` is that of its box on this frame, or 0.

    As long as the cloud has said nothing, and on the first frame of a scene, that is what the edge reports.
    """
    if state.fresh or not state.learned.counts:
        return edge_confidence >= state.report_threshold or track.confirmed
    return expected(state, track) >= SHOW_FROM
