"""Objects of a clip and how long each waits for its first detection.

H. Mao, T. Kong and B. Dally, "CaTDet: Cascaded Tracked Detector for Efficient Object Detection from Video"
(SysML 2019) measure a detector on video by the mean delay from an object's entry to its first detection.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from spillover.common.types import Detections
from spillover.lab.pairs.fit.matching import overlaps
from spillover.lab.pairs.video.clip import Floats
from spillover.lab.pairs.video.labels import Ids, Truth
from spillover.lab.pairs.video.streaming import COUNTED_FROM

LINK_IOU = 0.3
"""Boxes of one object in two frames overlap at least so much."""
GAP_S = 1.0
"""An object that is not seen for longer is another one when it comes back."""
LEAST_LIFE_S = 1.0
"""Objects that are seen for a shorter time are not judged: many are the truth's own mistakes."""
FOUND_IOU = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Linked:
    """An object: the frames that show it, and its box in each."""

    numbers: list[int]
    boxes: list[Detections]
    """Of one box each."""


def objects_of(truth: Truth, times_s: Floats) -> list[Linked]:
    """The objects of a clip, by their numbers where the truth has them, else linked frame by frame."""
    boxes = [true.above(COUNTED_FROM) for true in truth.boxes]
    ids = truth.ids if truth.ids is not None else link(boxes, times_s)
    found: dict[int, Linked] = {}
    for number, (of_frame, of_ids) in enumerate(zip(boxes, ids, strict=True)):
        for row, object_id in enumerate(of_ids.tolist()):
            linked = found.setdefault(object_id, Linked([], []))
            linked.numbers.append(number)
            linked.boxes.append(of_frame[row : row + 1])
    return list(found.values())


def link(boxes: Sequence[Detections], times_s: Floats) -> list[Ids]:
    """A number for each box, the same from frame to frame where boxes of one class overlap.

    Each frame's boxes are assigned to the objects of the last second so that overlaps add up to most.
    """
    last_seen: dict[int, tuple[float, Detections]] = {}
    numbered, count = [], 0
    for of_frame, at_s in zip(boxes, times_s, strict=True):
        last_seen = {key: seen for key, seen in last_seen.items() if at_s - seen[0] <= GAP_S}
        known = list(last_seen)
        ids = np.full(len(of_frame), -1, np.int64)
        if known and len(of_frame):
            overlap = overlaps(of_frame, _joined([last_seen[key][1] for key in known]))
            for row, column in zip(*linear_sum_assignment(-overlap), strict=True):
                if overlap[row, column] >= LINK_IOU:
                    ids[row] = known[column]
        new = np.flatnonzero(ids < 0)
        ids[new] = count + np.arange(len(new))
        count += len(new)
        for row, key in enumerate(ids.tolist()):
            last_seen[key] = float(at_s), of_frame[row : row + 1]
        numbered.append(ids)
    return numbered


def mean_delay_s(objects: Sequence[Linked], shown: Sequence[Detections], times_s: Floats) -> float | None:
    """Mean seconds from an object's first frame to the first instant at which a shown box finds it.

    An object that is never found counts the time for which it was there. None without objects that are there
    for a second.
    """
    delays_s = []
    for one in objects:
        first_s, last_s = times_s[one.numbers[0]], times_s[one.numbers[-1]]
        if last_s - first_s < LEAST_LIFE_S:
            continue
        found_s = next(
            (
                times_s[number]
                for number, box in zip(one.numbers, one.boxes, strict=True)
                if _finds(shown[number], box)
            ),
            last_s,
        )
        delays_s.append(found_s - first_s)
    return float(np.mean(delays_s)) if delays_s else None


def _finds(shown: Detections, box: Detections) -> bool:
    return bool((overlaps(shown.above(COUNTED_FROM), box) >= FOUND_IOU).any())


def _joined(boxes: Sequence[Detections]) -> Detections:
    return Detections(
        np.concatenate([one.xyxy for one in boxes]),
        np.concatenate([one.confidence for one in boxes]),
        np.concatenate([one.class_id for one in boxes]),
    )
