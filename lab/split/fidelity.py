"""How much of the whole network's answers is left when its features were coded; needs no labels.

The whole network's answer is taken for the truth, with its own confidences as probabilities. For a
classifier: the probability that the whole network gives to the class chosen from coded features, over the
probability it gives to its own choice. A calibrated network's expected relative accuracy is just that. For a
detector: boxes matched by class and IoU >= 0.5, best confidence first; twice the confidence matched over all
confidence (Dice's coefficient).
"""

from collections.abc import Sequence

import numpy as np

from spillover.common.types import Classification, Detections, FloatArray, Prediction

MATCH_IOU = 0.5


def fidelity(whole: Sequence[Prediction], coded: Sequence[Prediction]) -> float:
    """Share of `whole` that is left in `coded`, 0..1, over pictures in the same order."""
    shares = [kept_of(a, b) for a, b in zip(whole, coded, strict=True)]
    kept, there = (sum(side) for side in zip(*shares, strict=True)) if shares else (0.0, 0.0)
    return kept / there if there else 1.0


def kept_of(whole: Prediction, coded: Prediction) -> tuple[float, float]:
    """What one picture adds to what is kept, and to all there is; their sums' ratio is the fidelity."""
    match whole, coded:
        case Classification(), Classification():
            same = whole.class_id == coded.class_id[0]
            return float(whole.probability[same].sum()), whole.confidence
        case Detections(), Detections():
            there = float(whole.confidence.sum() + coded.confidence.sum())
            return 2 * matched_confidence(whole, coded), there
        case _:
            raise TypeError("predictions of two tasks cannot be compared")


def kept_at_best(whole: Prediction) -> float:
    """What a picture adds to both where nothing is lost."""
    match whole:
        case Classification():
            return whole.confidence
        case Detections():
            return 2 * float(whole.confidence.sum())


def matched_confidence(whole: Detections, coded: Detections) -> float:
    """Sum, over boxes that were found again, of the smaller of the two confidences."""
    overlap = _iou(whole.xyxy, coded.xyxy)
    overlap[whole.class_id[:, None] != coded.class_id[None]] = 0
    total = 0.0
    for row in range(len(whole)):
        if len(coded) and overlap[row].max() >= MATCH_IOU:
            column = int(overlap[row].argmax())
            overlap[:, column] = 0
            total += float(min(whole.confidence[row], coded.confidence[column]))
    return total


def _iou(a: FloatArray, b: FloatArray) -> FloatArray:
    left_top = np.maximum(a[:, None, :2], b[None, :, :2])
    right_bottom = np.minimum(a[:, None, 2:], b[None, :, 2:])
    common: FloatArray = np.prod(np.clip(right_bottom - left_top, 0, None), axis=2)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (a, b)]
    union = areas[0][:, None] + areas[1][None] - common
    overlap: FloatArray = (common / np.maximum(union, 1e-9)).astype(np.float32)
    return overlap
