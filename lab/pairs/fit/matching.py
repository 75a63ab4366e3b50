"""Which boxes of two sets are the same object: greedy, by class and intersection over union."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spillover.common.tasks.detection import pairwise_iou
from spillover.common.types import Detections
from spillover.lab.data.labelled import CocoTruth
from spillover.lab.pairs.evaluate.mixture import Floats

IOUS = np.linspace(0.5, 0.95, 10)
"""The thresholds that COCO's average precision is a mean over."""


@dataclass(frozen=True, slots=True, eq=False)
class Objects:
    """What is in one picture: `xyxy` (N, 4) and `class_id` (N,)."""

    xyxy: Floats
    class_id: npt.NDArray[np.int64]


def true_objects(truth: CocoTruth) -> list[Objects]:
    """The labelled objects of each picture, without crowds; a category's id is the model's class."""
    rows: dict[int, list[tuple[float, ...]]] = {image_id: [] for image_id in truth.image_ids}
    for each in truth.instances["annotations"]:
        if not each.get("iscrowd") and each["image_id"] in rows:
            x, y, w, h = each["bbox"]
            rows[each["image_id"]].append((x, y, x + w, y + h, each["category_id"]))
    arrays = [np.array(rows[image_id], np.float64).reshape(-1, 5) for image_id in truth.image_ids]
    return [Objects(each[:, :4], each[:, 4].astype(np.int64)) for each in arrays]


def overlaps(found: Detections, objects: Objects | Detections) -> Floats:
    """Intersection over union (found, objects); 0 where the classes differ."""
    iou = pairwise_iou(found.xyxy, objects.xyxy.astype(np.float32))
    same: Floats = np.where(found.class_id[:, None] == objects.class_id[None], iou, 0.0).astype(np.float64)
    return same


def match(overlap: Floats, least: float) -> npt.NDArray[np.intp]:
    """For each box in turn the object it overlaps most, at least so far and not yet taken; -1 for none."""
    free = np.where(overlap >= least, overlap, 0.0)
    taken = np.full(len(overlap), -1)
    for box in np.flatnonzero(free.any(axis=1)):
        if free[box].any():
            taken[box] = free[box].argmax()
            free[:, taken[box]] = 0.0
    return taken


def shares_right(found: Sequence[Detections], objects: Sequence[Objects]) -> list[Floats]:
    """For each box of each picture the share of COCO's IoU thresholds at which it is right, 0..1."""
    shares = []
    for boxes, known in zip(found, objects, strict=True):
        overlap = overlaps(boxes, known)
        shares.append(np.mean([match(overlap, least) >= 0 for least in IOUS], axis=0))
    return shares
