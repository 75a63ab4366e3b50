"""Association: which box belongs to which track, by overlap and class, the best pair first."""

from collections.abc import Sequence

import numpy as np

from spillover.common.tasks.detection import pairwise_iou
from spillover.common.types import FloatArray

Pairs = dict[int, int]


def associate(
    tracks: Sequence[tuple[float, ...]],
    track_classes: Sequence[int],
    boxes: Sequence[tuple[float, ...]],
    box_classes: Sequence[int],
    least_iou: float,
) -> Pairs:
    """Index of the box of each track that has one.

    `tracks` and `boxes` begin with left, top, right, bottom. Pairs of equal class that overlap by `least_iou`
    or more are taken by descending overlap, each track and box once; at equal overlap the first track's first
    box. Greedy: with the few boxes of a picture that seldom differs from the best assignment.
    """
    if not tracks or not boxes:
        return {}
    iou = overlaps(tracks, boxes)
    iou[np.asarray(track_classes)[:, None] != np.asarray(box_classes)[None, :]] = 0.0
    row, column = np.nonzero(iou >= least_iou)
    order = np.argsort(-iou[row, column], kind="stable")
    pairs: Pairs = {}
    taken: set[int] = set()
    for one, other in zip(row[order].tolist(), column[order].tolist(), strict=True):
        if one not in pairs and other not in taken:
            pairs[one] = other
            taken.add(other)
    return pairs


def overlaps(a: Sequence[tuple[float, ...]], b: Sequence[tuple[float, ...]]) -> FloatArray:
    """Intersection over union (N, M) float32 of two lists of boxes, neither empty."""
    first, second = (np.array([one[:4] for one in boxes], np.float32) for boxes in (a, b))
    return pairwise_iou(first, second)
