"""The life of tracks: one pure step a frame, from what the frame tells; births, looks, denials, ends.

Nothing here reads a clock or a pixel: the same inputs give the same tracks, bit by bit.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from spillover.edge.tracking import boxes as geometry
from spillover.edge.tracking.association import associate, overlaps
from spillover.edge.tracking.boxes import xyxy_of
from spillover.edge.tracking.judgement import MOST_DENIALS, judged
from spillover.edge.tracking.values import (
    Answer,
    Box,
    Moment,
    SinceSent,
    StepInputs,
    Track,
    TrackerState,
)

MOST_TRACKS = 200
MOST_PAST = 32
"""Sent frames whose answers can be waited for."""
EDGE_IOU = 0.3
"""Overlap from which on an edge's box is of a track."""
CLOUD_IOU = 0.4
"""Overlap, at the frame of the answer, from which on a cloud's box is of a track."""
SAME_IOU = 0.7
"""Two tracks of a class that overlap by more are one object."""
PULL = 0.2
"""How far the edge's box draws a confirmed track to itself: flow drifts, and the edge's box trembles."""
SMOOTHING = 0.4
"""Weight of the newest frame in a track's edge confidence."""
COAST_S = 1.0
"""A track that the cloud has not confirmed, or often denied, outlives the edge's last look by this time."""
MOST_UNSEEN_S = 20.0
"""Any other track that nobody has seen for this time ends."""
MOST_LOST = 10
"""A track whose points are not found on so many frames in a row, and that nobody sees, ends."""
LEAST_VISIBLE = 0.3
"""A track of which the picture shows less has left it."""
LEAST_SIDE = 2.0
"""Pixels a side of the smallest box."""


def step(state: TrackerState, inputs: StepInputs) -> TrackerState:
    """The state after one more frame. A frame that is not newer than the state changes nothing."""
    if inputs.captured_s <= state.captured_s:
        return state
    past, since_sent = state.past, state.since_sent
    if inputs.sent_before:
        past = (*past, Moment(state.captured_s, state.tracks, state.scene))[-MOST_PAST:]
        since_sent = SinceSent()
    resized = (inputs.width, inputs.height) != (state.width, state.height)
    fresh = inputs.cut or resized
    now = replace(
        state,
        captured_s=inputs.captured_s,
        width=inputs.width,
        height=inputs.height,
        tracks=() if fresh else _moved(state.tracks, inputs),
        past=past,
        next_id=max(state.next_id, inputs.next_id),
        scene=state.scene + fresh,
        fresh=fresh,
    )
    lost = sum(track.lost == 1 for track in now.tracks)
    for answer in inputs.answers:
        now = _answered(now, answer)
    now = _looked_at(now, inputs.boxes)
    kept, left = _living(now)
    numbers = {track.track_id for track in kept}
    ended = tuple(track.track_id for track in state.tracks if track.track_id not in numbers)
    before = {track.track_id for track in state.tracks}
    births = sum(track.track_id not in before for track in kept)
    deaths = 0 if fresh else sum(number not in left for number in ended)
    since_sent = SinceSent(
        since_sent.births + births, since_sent.deaths + deaths, since_sent.flow_failures + lost
    )
    return replace(now, tracks=kept, ended=ended, since_sent=since_sent)


def tracks_at(state: TrackerState, captured_s: float) -> Moment | None:
    """The tracks as they were at a sent frame, or at the newest one; None if that is forgotten."""
    if captured_s == state.captured_s:
        return Moment(state.captured_s, state.tracks, state.scene)
    return next((moment for moment in reversed(state.past) if moment.captured_s == captured_s), None)


def matches(moment: Moment, boxes: Sequence[Box]) -> dict[int, int]:
    """Number of the track that each of the cloud's boxes shows, by index of the box."""
    pairs = associate(
        [track.xyxy for track in moment.tracks],
        [track.class_id for track in moment.tracks],
        boxes,
        [box.class_id for box in boxes],
        CLOUD_IOU,
    )
    return {box: moment.tracks[track].track_id for track, box in pairs.items()}


def _moved(tracks: tuple[Track, ...], inputs: StepInputs) -> tuple[Track, ...]:
    return tuple(
        track._replace(
            xyxy=geometry.moved(track.xyxy, motion),
            edge_box=-1,
            lost=0 if motion.measured else track.lost + 1,
        )
        for track, motion in zip(tracks, inputs.motions, strict=True)
    )


def _answered(state: TrackerState, answer: Answer) -> TrackerState:
    """The state after an answer of the cloud: tracks confirmed, corrected, denied and begun."""
    moment = tracks_at(state, answer.captured_s)
    if moment is None:
        return state
    had = dict(zip(answer.track_ids, answer.boxes, strict=True))
    unseen = frozenset(answer.unseen)
    learned = judged(state.learned, moment, had, unseen)
    then = {track.track_id: track for track in moment.tracks if track.track_id not in unseen}
    gap_s = answer.captured_s - state.answered_s
    if gap_s > 0 and not math.isinf(gap_s):
        learned = learned.met(gap_s, sum(number not in then for number in answer.track_ids))
    state = replace(state, learned=learned)
    if moment.scene != state.scene:
        return state
    tracks = [_judged_track(track, then.get(track.track_id), had, answer) for track in state.tracks]
    newest = answer.captured_s >= state.answered_s
    if newest:  # what a newer answer did not have is not there any more
        tracks = _with_new(tracks, answer)
    refused = max(0, len(tracks) - MOST_TRACKS)
    room = sorted(tracks, key=lambda track: not track.confirmed)[:MOST_TRACKS] if refused else tracks
    return replace(
        state,
        tracks=tuple(sorted(room, key=lambda track: track.track_id)),
        refused=state.refused + refused,
        next_id=max(state.next_id, 1 + max(answer.track_ids, default=0)),
        answered_s=answer.captured_s if newest else state.answered_s,
        answered_id=answer.frame_id if newest else state.answered_id,
    )


def _judged_track(track: Track, then: Track | None, had: dict[int, Box], answer: Answer) -> Track:
    """A track after an answer for a frame on which it was `then`."""
    if then is None or answer.captured_s < track.judged_s:
        return track
    box = had.get(track.track_id)
    if box is None:
        return track._replace(judged_s=answer.captured_s, denials=track.denials + 1)
    xyxy = geometry.carried(xyxy_of(box), then.xyxy, track.xyxy)
    return _confirmed(track, xyxy, box, answer.captured_s)


def _confirmed(track: Track, xyxy: geometry.XYXY, box: Box, captured_s: float) -> Track:
    return track._replace(
        xyxy=xyxy,
        cloud_confidence=box.confidence,
        cloud_s=captured_s,
        judged_s=captured_s,
        denials=0,
    )


def _with_new(tracks: list[Track], answer: Answer) -> list[Track]:
    """The tracks, with those boxes of an answer that none of them was at its frame."""
    living = {track.track_id for track in tracks}
    new = [
        (number, box, geometry.moved(xyxy_of(box), motion))
        for number, box, motion in zip(answer.track_ids, answer.boxes, answer.moved, strict=True)
        if motion is not None and number not in living
    ]
    younger = [index for index, track in enumerate(tracks) if track.judged_s < answer.captured_s]
    pairs = associate(
        [tracks[index].xyxy for index in younger],
        [tracks[index].class_id for index in younger],
        [xyxy for _, _, xyxy in new],
        [box.class_id for _, box, _ in new],
        CLOUD_IOU,
    )
    known = {box: younger[track] for track, box in pairs.items()}
    for index, (number, box, xyxy) in enumerate(new):
        if index in known:
            tracks[known[index]] = _confirmed(tracks[known[index]], xyxy, box, answer.captured_s)
        else:
            track = Track(number, box.class_id, xyxy, born_s=answer.captured_s)
            tracks.append(_confirmed(track, xyxy, box, answer.captured_s))
    return tracks


def _looked_at(state: TrackerState, boxes: tuple[Box, ...]) -> TrackerState:
    """The state after the edge's own look at the frame."""
    tracks = list(state.tracks)
    pairs = associate(
        [track.xyxy for track in tracks],
        [track.class_id for track in tracks],
        boxes,
        [box.class_id for box in boxes],
        EDGE_IOU,
    )
    for index, at in pairs.items():
        tracks[index] = _seen(tracks[index], boxes[at], at, state.captured_s)
    taken = set(pairs.values())
    begun = [
        at for at, box in enumerate(boxes) if at not in taken and box.confidence >= state.report_threshold
    ]
    refused = max(0, len(tracks) + len(begun) - MOST_TRACKS)
    begun = begun[: len(begun) - refused]
    for number, at in enumerate(begun, state.next_id):
        box = boxes[at]
        tracks.append(
            Track(
                number,
                box.class_id,
                xyxy_of(box),
                born_s=state.captured_s,
                edge_confidence=box.confidence,
                edge_box=at,
                edge_s=state.captured_s,
            )
        )
    return replace(
        state,
        tracks=tuple(tracks),
        next_id=state.next_id + len(begun),
        refused=state.refused + refused,
    )


def _seen(track: Track, box: Box, at: int, captured_s: float) -> Track:
    """A track with the edge's box of this frame. The box is the track's where the edge alone knows it."""
    before = track.edge_confidence
    smooth = before + SMOOTHING * (box.confidence - before) if before else box.confidence
    own = xyxy_of(box)
    xyxy = geometry.blend(track.xyxy, own, PULL) if track.confirmed else own
    return track._replace(xyxy=xyxy, edge_confidence=smooth, edge_box=at, edge_s=captured_s)


def _living(state: TrackerState) -> tuple[tuple[Track, ...], set[int]]:
    """The tracks that live on, and the numbers of those that have left the picture."""
    kept: list[Track] = []
    left: set[int] = set()
    for track in state.tracks:
        if geometry.visible_share(track.xyxy, state.width, state.height) < LEAST_VISIBLE:
            left.add(track.track_id)
        elif not _ends(track, state.captured_s):
            kept.append(track)
    return _without_doubles(kept), left


def _ends(track: Track, now_s: float) -> bool:
    left, top, right, bottom = track.xyxy
    if right - left < LEAST_SIDE or bottom - top < LEAST_SIDE:
        return True
    if track.edge_box >= 0:
        return False
    if track.lost > MOST_LOST:
        return True
    # The cloud's model, too, misses an object now and then.
    believed = track.cloud_confidence > 0 and track.denials < MOST_DENIALS
    return now_s - max(track.edge_s, track.cloud_s) > (MOST_UNSEEN_S if believed else COAST_S)


def _without_doubles(tracks: list[Track]) -> tuple[Track, ...]:
    """The tracks without those that have come to lie on a better one of their class."""
    if len(tracks) < 2:
        return tuple(tracks)
    iou = overlaps([track.xyxy for track in tracks], [track.xyxy for track in tracks])
    first, second = (axis.tolist() for axis in (iou > SAME_IOU).nonzero())
    gone: set[int] = set()
    for a, b in zip(first, second, strict=True):
        if a < b and a not in gone and b not in gone and tracks[a].class_id == tracks[b].class_id:
            gone.add(b if _better(tracks[a], tracks[b]) else a)
    return tuple(track for index, track in enumerate(tracks) if index not in gone)


def _better(older: Track, younger: Track) -> bool:
    """Whether the older of two tracks of one object is the one to keep."""
    return (older.confirmed, older.cloud_s) >= (younger.confirmed, younger.cloud_s)
