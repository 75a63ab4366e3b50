"""Matches the boxes of two sets that show the same object: greedily, by class and intersection over union."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spillover.common.tasks.detection import pairwise_iou
from spillover.common.types import Detections, FloatArray
from spillover.lab.data.labelled import CocoTruth
from spillover.lab.pairs.evaluate.mixture import Floats

IOUS = np.linspace(0.5, 0.95, 10)
"""The thresholds over which COCO averages precision."""


@dataclass(frozen=True, slots=True, eq=False)
class Objects:
    """The objects in one picture: `xyxy` (N, 4) in pixels and `class_id` (N,)."""

    xyxy: FloatArray
    class_id: npt.NDArray[np.int64]


def true_objects(truth: CocoTruth) -> list[Objects]:
    """The labelled objects of each picture, without crowds; a category's id is the model's class."""
    rows: dict[int, list[tuple[float, ...]]] = {image_id: [] for image_id in truth.image_ids}
    for annotation in truth.instances["annotations"]:
        if not annotation.get("iscrowd") and annotation["image_id"] in rows:
            x, y, w, h = annotation["bbox"]
            rows[annotation["image_id"]].append((x, y, x + w, y + h, annotation["category_id"]))
    arrays = [np.array(rows[image_id], np.float64).reshape(-1, 5) for image_id in truth.image_ids]
    return [Objects(array[:, :4].astype(np.float32), array[:, 4].astype(np.int64)) for array in arrays]


def overlaps(boxes: Detections, objects: Objects | Detections) -> FloatArray:
    """Intersection over union (boxes, objects); 0 where the classes differ."""
    overlap = pairwise_iou(boxes.xyxy, objects.xyxy)
    overlap[boxes.class_id[:, None] != objects.class_id[None]] = 0.0
    return overlap


def match(overlap: FloatArray, least: float) -> npt.NDArray[np.intp]:
    """For each box in turn the free object that it overlaps most, by `least` or more; -1 for none."""
    free = np.where(overlap >= least, overlap, 0.0)
    taken = np.full(len(overlap), -1)
    for box in np.flatnonzero(free.any(axis=1)):
        if free[box].any():
            taken[box] = free[box].argmax()
            free[:, taken[box]] = 0.0
    return taken


def shares_right(predictions: Sequence[Detections], objects: Sequence[Objects]) -> list[Floats]:
    """For each box of each picture the share of COCO's IoU thresholds at which it is right, 0..1."""
    shares = []
    for boxes, known in zip(predictions, objects, strict=True):
        overlap = overlaps(boxes, known)
        shares.append(np.mean([match(overlap, least) >= 0 for least in IOUS], axis=0))
    return shares
