"""How well track numbers follow real objects: IDF1 and identity switches.

Written here because the packages that have them want another OpenCV (trackeval) or an older NumPy
(motmetrics).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from spillover.common.types import Detections, FloatArray
from spillover.lab.pairs.fit.matching import overlaps
from spillover.lab.pairs.video.labels import Ids

MATCH_IOU = 0.5
_KEEP = 1000.0
"""Added to the overlap of a pair that was matched before, so that an object keeps its track while it may."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Figures of a whole clip."""

    idf1: float
    switches: int


@dataclass(frozen=True, slots=True, eq=False)
class Numbered:
    """Boxes of one frame with the number of each, (N,)."""

    boxes: Detections
    ids: Ids


def identity(truth: Sequence[Numbered], tracks: Sequence[Numbered]) -> Identity:
    """Compare frame by frame; a true and a tracked box are the same at IoU 0.5 and one class."""
    similar = [overlaps(tracked.boxes, true.boxes).T for true, tracked in zip(truth, tracks, strict=True)]
    return Identity(_idf1(truth, tracks, similar), _switches(truth, tracks, similar))


def _idf1(truth: Sequence[Numbered], tracks: Sequence[Numbered], similar: Sequence[FloatArray]) -> float:
    """2 IDTP / (boxes of both), each object assigned to one track so that IDTP is largest.

    E. Ristani et al., "Performance Measures and a Data Set for Multi-Target, Multi-Camera Tracking" (ECCV
    workshops 2016). 1 where there are no boxes at all.
    """
    together: Counter[tuple[int, int]] = Counter()
    for true, tracked, overlap in zip(truth, tracks, similar, strict=True):
        for row, column in np.argwhere(overlap >= MATCH_IOU).tolist():
            together[int(true.ids[row]), int(tracked.ids[column])] += 1
    boxes = sum(len(one.ids) for one in truth) + sum(len(one.ids) for one in tracks)
    if not together:
        return 1.0 if not boxes else 0.0
    objects = sorted({pair[0] for pair in together})
    numbers = sorted({pair[1] for pair in together})
    counts = np.array([[together[one, number] for number in numbers] for one in objects])
    rows, columns = linear_sum_assignment(-counts)
    return float(2 * counts[rows, columns].sum() / boxes)


def _switches(truth: Sequence[Numbered], tracks: Sequence[Numbered], similar: Sequence[FloatArray]) -> int:
    """How often an object is matched to another track than when it was matched last.

    CLEAR MOT: K. Bernardin and R. Stiefelhagen (EURASIP 2008): an object keeps its track while both overlap.
    """
    last: dict[int, int] = {}
    before: dict[int, int] = {}
    switches = 0
    for true, tracked, overlap in zip(truth, tracks, similar, strict=True):
        if not overlap.size:
            continue
        kept = [[before.get(one) == number for number in tracked.ids.tolist()] for one in true.ids.tolist()]
        score = np.where(overlap >= MATCH_IOU, overlap + _KEEP * np.array(kept), 0.0)
        before = {}
        for row, column in zip(*linear_sum_assignment(-score), strict=True):
            if score[row, column] <= 0:
                continue
            one, number = int(true.ids[row]), int(tracked.ids[column])
            switches += last.get(one, number) != number
            last[one] = before[one] = number
    return switches
