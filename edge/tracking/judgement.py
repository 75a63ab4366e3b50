"""Which tracks are shown: what the cloud's answers have taught of tracks like them."""

import math
from collections.abc import Mapping, Sequence, Set

from spillover.edge.tracking.boxes import iou, xyxy_of
from spillover.edge.tracking.learned import Key, Learned, SpanKey
from spillover.edge.tracking.values import Box, Moment, Track, TrackerState

LEAST_SHARE = 0.33
"""A track that the cloud is expected to confirm less often is never shown."""
RIGHT_IOU = 0.5
"""A carried box is right if the next answer's box overlaps it by this."""
BINS = 10
"""Bins of a confidence 0..1."""
UNSEEN_S = (0.15, 1.0)
"""Limits of the bins of the time since the edge saw a confirmed track."""
CONTESTED = 3
"""The bin of a confirmed track that the edge does not see, but another class in its place."""
SAME_PLACE = 0.5
"""Tracks of two classes that overlap by this are taken for one object."""
FAINT = 0.4
"""What neither side is surer of comes and goes from frame to frame in the cloud's own answers."""
MOST_DENIALS = 3
"""More answers in a row without a track make no difference."""
PRIORS = {
    ("new", True): 0.6,
    ("new", False): 0.25,
    ("denied", False): 0.1,
    ("dropped", True): 0.4,
    ("dropped", False): 0.25,
}
"""Expected share that the next answer has, of tracks that the edge alone has seen, seen and then denied by
the cloud, confirmed and then missed by the cloud; with and without a box of the edge on that frame."""


def rivals(tracks: Sequence[Track]) -> dict[int, Track]:
    """The edge's track in the place of each contested one, by number of the contested one."""
    seen: list[Track] = []
    unseen: list[Track] = []
    for track in tracks:
        if track.confirmed != (track.edge_box >= 0):
            (unseen if track.confirmed else seen).append(track)
    found: dict[int, Track] = {}
    for track in unseen:
        best, most = track, SAME_PLACE
        for other in seen:
            if other.class_id != track.class_id and (overlap := iou(track.xyxy, other.xyxy)) >= most:
                best, most = other, overlap
        if best is not track:
            found[track.track_id] = best
    return found


def kind_of(track: Track, *, rival: bool = False) -> Key:
    """What kind of track it is, if it is not confirmed; `rival` of one that is."""
    seen = track.edge_box >= 0
    confidence = min(int(track.edge_confidence * BINS), BINS - 1)
    if rival:
        return Key("rival", seen, confidence)
    if track.cloud_confidence > 0:
        return Key("dropped", seen, min(track.denials, MOST_DENIALS))
    return Key("denied" if track.denials else "new", seen, confidence)


def prior_of(key: Key, edge_confidence: float) -> float:
    """Expected share of a kind before anything is known.

    A rival is as likely as the edge is sure of it; what was denied, by its square: one denial says little of
    what the edge was hardly sure of then, and is sure of now.
    """
    own = {"rival": edge_confidence, "denied": edge_confidence**2} if key.seen else {}
    return own[key.kind] if key.kind in own else PRIORS[key.kind, key.seen]


def span_of(track: Track, now_s: float, *, contested: bool) -> SpanKey:
    """What kind of confirmed track it is: how long the edge has not seen it, and whether anybody is sure."""
    unseen = CONTESTED if contested else sum(now_s - track.edge_s > limit for limit in UNSEEN_S)
    seen = track.edge_confidence if track.edge_box >= 0 else 0.0
    return SpanKey(unseen, max(track.cloud_confidence, seen) < FAINT)


def judged(learned: Learned, moment: Moment, boxes: Mapping[int, Box], unseen: Set[int]) -> Learned:
    """What is known after an answer for a frame; `boxes` are its boxes of tracks there, by number.

    Of the tracks `unseen` the cloud was shown nothing.
    """
    contested = rivals(moment.tracks)
    wins = {rival.track_id: number for number, rival in contested.items()}
    right = {
        track.track_id: (box := boxes.get(track.track_id)) is not None
        and iou(track.xyxy, xyxy_of(box)) >= RIGHT_IOU
        for track in moment.tracks
    }
    for track in moment.tracks:
        number = track.track_id
        if number in unseen:
            continue
        if track.confirmed:
            key = span_of(track, moment.captured_s, contested=number in contested)
            learned = learned.survived(key, moment.captured_s - track.cloud_s, right=right[number])
        elif number not in wins or not right[wins[number]]:  # a rival counts where the other one was wrong
            learned = learned.observed(kind_of(track, rival=number in wins), confirmed=right[number])
    return learned


def expected(state: TrackerState, contested: Mapping[int, Track]) -> dict[int, float]:
    """Expected share of tracks like each one that the cloud would confirm on this frame, by number.

    `contested` is what `rivals` found among them.
    """
    shares = {}
    for track in state.tracks:
        if track.confirmed:
            key = span_of(track, state.captured_s, contested=track.track_id in contested)
            shares[track.track_id] = state.learned.survival(key, state.captured_s - track.cloud_s)
        else:
            kind = kind_of(track)
            shares[track.track_id] = state.learned.share(kind, prior_of(kind, track.edge_confidence))
    for number, rival in contested.items():
        kind = kind_of(rival, rival=True)
        right = state.learned.share(kind, prior_of(kind, rival.edge_confidence))
        shares[rival.track_id] = (1.0 - shares[number]) * right
    return shares


def chosen(
    state: TrackerState, boxes: Sequence[Box], contested: Mapping[int, Track], shares: Mapping[int, float]
) -> list[Track]:
    """The tracks that the result shows; `boxes` are the edge's boxes of the frame, `shares` as `expected`.

    As long as the cloud has said nothing, and on the first frame of a scene, those that the edge reports.
    Then the set of the best expected F1 with the cloud's answer (plug-in rule: Ye et al., ICML 2012): where
    nearly all is known, what the cloud confirms half of the time or more; the less is known, the more.
    Of two classes in one place the likelier one.
    What is hidden from the cloud is shown as the edge reports it.
    """
    if state.fresh or math.isinf(state.answered_s):
        return [track for track in state.tracks if _reported(state, track, boxes)]
    own = [track for track in state.tracks if track.class_id in state.hidden]
    judged_by_cloud = [track for track in state.tracks if track.class_id not in state.hidden]
    lost = {
        number if shares[rival.track_id] > shares[number] else rival.track_id
        for number, rival in contested.items()
    }
    standing = [track for track in judged_by_cloud if track.track_id not in lost]
    ranked = sorted(standing, key=lambda track: (-shares[track.track_id], track.track_id))
    objects = sum(shares[track.track_id] for track in judged_by_cloud)
    objects += state.learned.unknown(state.captured_s - state.answered_s)
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
