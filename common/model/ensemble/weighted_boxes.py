"""Weighted boxes fusion (Solovyev, Wang and Gabruseva, Image and Vision Computing 2021, arXiv 1910.13302).

Suppression keeps one model's box and forgets the others; here each box of an object moves the common one, and
what several models see counts for more than what one sees.
"""

from collections.abc import Sequence

import numpy as np

from spillover.common.tasks.detection import pairwise_iou
from spillover.common.types import Detections


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
    fused, classes = np.zeros_like(xyxy), np.zeros_like(class_id)
    weight, boxes, count = np.zeros(len(xyxy)), np.zeros(len(xyxy), np.int64), 0
    for index in np.argsort(-confidence, kind="stable"):
        overlap = pairwise_iou(fused[:count].astype(np.float32), xyxy[index : index + 1].astype(np.float32))
        overlap[classes[:count] != class_id[index]] = 0
        at = int(overlap.argmax()) if count else 0
        if not count or overlap[at, 0] <= iou_threshold:
            at, count = count, count + 1
            classes[at] = class_id[index]
        share = confidence[index] / max(weight[at] + confidence[index], np.finfo(np.float64).tiny)
        fused[at] += (xyxy[index] - fused[at]) * (share if boxes[at] else 1.0)
        weight[at] += confidence[index]
        boxes[at] += 1
    agreed = (weight[:count] / np.maximum(boxes[:count], len(answers))).astype(np.float32)
    order = np.argsort(-agreed, kind="stable")
    return Detections(fused[order].astype(np.float32), agreed[order], classes[order])
