"""Which tracks are shown: what the cloud's answers have taught of tracks like them."""

import math
from collections.abc import Sequence

from spillover.edge.tracking.boxes import iou, xyxy_of
from spillover.edge.tracking.learned import Key, Learned
from spillover.edge.tracking.values import Box, Track, TrackerState

LEAST_SHARE = 0.33
"""A track that the cloud is expected to confirm less often is never shown."""
RIGHT_IOU = 0.5
"""A carried box is right if the next answer's box overlaps it by this."""
BINS = 10
"""Bins of a confidence 0..1."""
UNSEEN_S = (0.15, 1.0)
"""Limits of the bins of the time since the edge saw a confirmed track."""
MOST_DENIALS = 3
"""More answers in a row without a track make no difference."""
PRIORS = {
    ("new", True): 0.6,
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


def chosen(state: TrackerState, boxes: Sequence[Box]) -> list[Track]:
    """The tracks that the result shows; `boxes` are the edge's boxes of the frame.

    As long as the cloud has said nothing, and on the first frame of a scene, those that the edge reports.
    Then the set of the best expected F1 with the cloud's answer (plug-in rule: Ye et al., ICML 2012): where
    nearly all is known, what the cloud confirms half of the time or more; the less is known, the more.
    What is hidden from the cloud is shown as the edge reports it.
    """
    if state.fresh or math.isinf(state.answered_s):
        return [track for track in state.tracks if _reported(state, track, boxes)]
    own = [track for track in state.tracks if track.class_id in state.hidden]
    judged_by_cloud = [track for track in state.tracks if track.class_id not in state.hidden]
    shares = {track.track_id: expected(state, track) for track in judged_by_cloud}
    ranked = sorted(judged_by_cloud, key=lambda track: (-shares[track.track_id], track.track_id))
    objects = sum(shares.values()) + state.learned.unknown(state.captured_s - state.answered_s)
    shown, right = 0, 0.0
    for track in ranked:
        share = shares[track.track_id]
        # One more box raises 2 right / (shown + objects) if its share is more than half of that.
        if share * (shown + objects) <= right or share < LEAST_SHARE:
            break
        shown, right = shown + 1, right + share
    return [*ranked[:shown], *(track for track in own if _reported(state, track, boxes))]


def _reported(state: TrackerState, track: Track, boxes: Sequence[Box]) -> bool:
    return track.confirmed or (
        0 <= track.edge_box < len(boxes) and boxes[track.edge_box].confidence >= state.report_threshold
    )
