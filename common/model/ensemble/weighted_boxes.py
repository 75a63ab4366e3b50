"""Weighted boxes fusion (Solovyev, Wang and Gabruseva, Image and Vision Computing 2021, arXiv 1910.13302).

Suppression keeps one model's box and forgets the others; here each box of an object moves the common one, and
what several models see counts for more than what one sees.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from spillover.common.types import NO_BOXES, Detections, FloatArray

_Doubles = npt.NDArray[np.float64]
_TINY = np.finfo(np.float64).tiny


def weighted_boxes(answers: Sequence[Detections], iou_threshold: float) -> Detections:
    """One answer of several models' answers to one picture, by descending confidence.

    Boxes go by descending confidence to the fused box of their class that they overlap most, if by more than
    `iou_threshold`, or found one. Its corners are the mean of theirs, weighted by confidence. Its confidence
    is their sum over the number of models, or over the number of boxes where that is larger: an object that
    one of two models sees has half of that model's confidence.
    """
    xyxy = np.concatenate([one.xyxy for one in answers]).astype(np.float64)
    confidence = np.concatenate([one.confidence for one in answers]).astype(np.float64)
    class_id = np.concatenate([one.class_id for one in answers])
    order = np.argsort(-confidence, kind="stable")
    parts = [NO_BOXES]
    for number in np.unique(class_id):
        chosen = order[class_id[order] == number]
        place, agreed = _fused(xyxy[chosen], confidence[chosen], len(answers), iou_threshold)
        parts.append(Detections(place, agreed, np.full(len(agreed), number, np.int32)))
    fused = Detections(
        np.concatenate([part.xyxy for part in parts]),
        np.concatenate([part.confidence for part in parts]),
        np.concatenate([part.class_id for part in parts]),
        sum(one.not_finite for one in answers),
    )
    return fused[np.argsort(-fused.confidence, kind="stable")]


def _fused(
    xyxy: _Doubles, confidence: _Doubles, models: int, threshold: float
) -> tuple[FloatArray, FloatArray]:
    """Corners (K, 4) and confidences (K,) of the fused boxes of one class; boxes come by confidence."""
    fused, area = np.zeros_like(xyxy), np.zeros(len(xyxy))
    weight, boxes, count = np.zeros(len(xyxy)), np.zeros(len(xyxy)), 0
    for box, sure in zip(xyxy, confidence.tolist(), strict=True):
        at = _most_overlapped(fused[:count], area[:count], box, threshold)
        if at < 0:
            at, count = count, count + 1
            fused[at] = box
        else:
            fused[at] += (box - fused[at]) * (sure / max(weight[at] + sure, _TINY))
        width, height = (fused[at, 2:] - fused[at, :2]).tolist()
        area[at] = max(width, 0.0) * max(height, 0.0)
        weight[at] += sure
        boxes[at] += 1
    agreed = weight[:count] / np.maximum(boxes[:count], models)
    return fused[:count].astype(np.float32), agreed.astype(np.float32)


def _most_overlapped(fused: _Doubles, area: _Doubles, box: _Doubles, threshold: float) -> int:
    """The fused box of the highest IoU with `box`, -1 where none is above the threshold."""
    if not len(fused):
        return -1
    left, top, right, bottom = box.tolist()
    width = np.maximum(np.minimum(fused[:, 2], right) - np.maximum(fused[:, 0], left), 0.0)
    height = np.maximum(np.minimum(fused[:, 3], bottom) - np.maximum(fused[:, 1], top), 0.0)
    shared = width * height
    own = max(right - left, 0.0) * max(bottom - top, 0.0)
    iou = shared / np.maximum(area + own - shared, _TINY)
    at = int(iou.argmax())
    return at if iou[at] > threshold else -1
