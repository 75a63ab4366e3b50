"""From tracks to a result: which boxes are shown, with whose confidence, and a summary for the policy."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from spillover.common.types import NO_BOXES, Detections, TrackMark
from spillover.edge.tracking.boxes import clipped
from spillover.edge.tracking.judgement import chosen, expected, rivals
from spillover.edge.tracking.stage import Shown, TrackSummary
from spillover.edge.tracking.values import Box, Track, TrackerState


def shown(state: TrackerState, boxes: Sequence[Box]) -> Shown:
    """The local result of the newest frame; `boxes` are the edge's boxes of it."""
    contested = rivals(state.tracks)
    shares = expected(state, contested)
    tracks = sorted(
        chosen(state, boxes, contested, shares),
        key=lambda track: (-_confidence(state, track, boxes), track.track_id),
    )
    marks = tuple(
        TrackMark(track.track_id, track.confirmed_by, max(0.0, state.captured_s - track.seen_s))
        for track in tracks
    )
    return Shown(
        detections_of(state, tracks, boxes),
        state.answered_id if any(track.confirmed for track in tracks) else "",
        marks,
        state.ended,
        summary_of(state, tracks, shares),
    )


def detections_of(state: TrackerState, tracks: Sequence[Track], boxes: Sequence[Box] = ()) -> Detections:
    """Tracks as boxes inside the picture, in the order given."""
    if not tracks:
        return NO_BOXES
    return Detections(
        np.array([clipped(track.xyxy, state.width, state.height) for track in tracks], np.float32),
        np.array([_confidence(state, track, boxes) for track in tracks], np.float32),
        np.array([track.class_id for track in tracks], np.int32),
    )


def summary_of(state: TrackerState, tracks: Sequence[Track], shares: Mapping[int, float]) -> TrackSummary:
    """What the policy reads."""
    half_life_s = state.learned.half_life_s
    stale = 0.0
    if math.isfinite(half_life_s):
        ages = [state.captured_s - track.cloud_s for track in tracks if track.confirmed]
        stale = sum(1.0 - 0.5 ** (age_s / half_life_s) for age_s in ages)
    doubts = [shares[track.track_id] for track in state.tracks if not track.confirmed]
    return TrackSummary(
        shown=len(tracks),
        stale=stale,
        births=state.since_sent.births,
        deaths=state.since_sent.deaths,
        flow_failures=state.since_sent.flow_failures,
        doubtful=sum(min(share, 1.0 - share) for share in doubts),
        half_life_s=half_life_s,
        fresh=state.fresh,
    )


def _edge_confidence(track: Track, boxes: Sequence[Box]) -> float:
    return boxes[track.edge_box].confidence if 0 <= track.edge_box < len(boxes) else 0.0


def _confidence(state: TrackerState, track: Track, boxes: Sequence[Box]) -> float:
    """That of the surer side: of what the cloud was once hardly sure the edge may be sure by now.

    What is shown counts as reported.
    """
    seen = _edge_confidence(track, boxes)
    said = max(track.cloud_confidence, seen) if track.confirmed else seen or track.edge_confidence
    return max(said, state.report_threshold)
