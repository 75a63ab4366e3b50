"""How far one prediction says the same as another, as one number between 0 and 1."""

import numpy as np

from spillover.common.types import Classification, Detections, FloatArray, Prediction

MATCH_IOU = 0.5


def agreement(prediction: Prediction, reference: Prediction, *, confidence: float = 0.3) -> float:
    """1 when `prediction` says what `reference` says.

    Classification: 1 or 0, by the best class. Detection: F1 of the boxes of at least `confidence`, matched
    one to one within a class at IoU >= 0.5, best confidence first (the matching of PASCAL VOC, IJCV 2010);
    1 when neither has any.

    Raises:
        TypeError: one is a classification and the other is not.
    """
    match prediction, reference:
        case Classification(), Classification():
            return float(prediction.class_id[0] == reference.class_id[0])
        case Detections(), Detections():
            return _f1(_confident(prediction, confidence), _confident(reference, confidence))
        case _:
            raise TypeError("a classification and a detection cannot agree")


def pairwise_iou(a: FloatArray, b: FloatArray) -> FloatArray:
    """Intersection over union of boxes a (N, 4) and b (M, 4), as (N, M) float32."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    area_a, area_b = (np.clip(x[:, 2:] - x[:, :2], 0, None).prod(axis=1) for x in (a, b))
    union = area_a[:, None] + area_b[None, :] - shared
    iou: FloatArray = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return iou


def _confident(detections: Detections, confidence: float) -> Detections:
    kept = detections.confidence >= confidence
    return Detections(detections.xyxy[kept], detections.confidence[kept], detections.class_id[kept])


def _f1(prediction: Detections, reference: Detections) -> float:
    total = len(prediction) + len(reference)
    return 2 * _matches(prediction, reference) / total if total else 1.0


def _matches(prediction: Detections, reference: Detections) -> int:
    iou = pairwise_iou(prediction.xyxy, reference.xyxy)
    iou[prediction.class_id[:, None] != reference.class_id[None, :]] = 0
    count = 0
    for row in iou:  # by descending confidence, as Detections promises
        best = int(row.argmax()) if row.size else -1
        if best >= 0 and row[best] >= MATCH_IOU:
            iou[:, best] = 0
            count += 1
    return count
