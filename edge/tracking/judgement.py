"""Which tracks are shown: what the cloud's answers have taught of tracks like them."""

import math

from spillover.edge.tracking.boxes import iou, xyxy_of
from spillover.edge.tracking.learned import Key, Learned
from spillover.edge.tracking.values import Box, Track, TrackerState

SHOW_FROM = 0.5
"""A track is shown if the cloud is expected to confirm it at least so often."""
RIGHT_IOU = 0.5
"""A carried box is right if the next answer's box overlaps it by this."""
BINS = 10
"""Bins of a confidence 0..1."""
UNSEEN_S = (0.15, 1.0)
"""Limits of the bins of the time since the edge saw a confirmed track."""
MOST_DENIALS = 3
"""More answers in a row without a track make no difference."""
PRIORS = {
    ("new", True): 0.5,
    ("new", False): 0.25,
    ("denied", True): 0.25,
    ("denied", False): 0.1,
    ("dropped", True): 0.4,
    ("dropped", False): 0.25,
}
"""Expected share that the next answer has, of tracks that the edge alone has seen, seen and then denied by
the cloud, confirmed and then missed by the cloud; with and without a box of the edge on that frame."""


def kind_of(track: Track) -> Key:
    """What kind of track it is, if it is not confirmed."""
    seen = track.edge_box >= 0
    if track.cloud_confidence > 0:
        return Key("dropped", seen, min(track.denials, MOST_DENIALS))
    kind = "denied" if track.denials else "new"
    return Key(kind, seen, min(int(track.edge_confidence * BINS), BINS - 1))


def unseen_bin(track: Track, now_s: float) -> int:
    """How long the edge has not seen a track."""
    return sum(now_s - track.edge_s > limit for limit in UNSEEN_S)


def judged(learned: Learned, track: Track, box: Box | None, captured_s: float) -> Learned:
    """What is known after an answer for a frame on which there was this track; `box` is its box there."""
    right = box is not None and iou(track.xyxy, xyxy_of(box)) >= RIGHT_IOU
    if track.confirmed:
        return learned.survived(unseen_bin(track, captured_s), captured_s - track.cloud_s, right=right)
    return learned.observed(kind_of(track), confirmed=right)


def expected(state: TrackerState, track: Track) -> float:
    """Expected share of tracks like this one that the cloud would confirm on this frame."""
    if track.confirmed:
        unseen = unseen_bin(track, state.captured_s)
        return state.learned.survival(unseen, state.captured_s - track.cloud_s)
    key = kind_of(track)
    return state.learned.share(key, PRIORS[key.kind, key.seen])


def is_shown(state: TrackerState, track: Track, edge_confidence: float) -> bool:
    """Whether the result shows the track; `edge_confidence` is that of its box on this frame, or 0.

    As long as the cloud has said nothing, and on the first frame of a scene, that is what the edge reports.
    """
    if state.fresh or math.isinf(state.answered_s):
        return edge_confidence >= state.report_threshold or track.confirmed
    return expected(state, track) >= SHOW_FROM
