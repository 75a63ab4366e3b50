"""Fidelity: the share of the whole network's answers that remains after coding its features; needs no labels.

The whole network's answer counts as the truth, with its confidences as probabilities. For a classifier: the
probability that the whole network gives to the class chosen from coded features, over the probability of its
own choice; for a calibrated network that is the expected relative accuracy. For a detector: boxes matched by
class and IoU >= 0.5, best confidence first; twice the confidence matched over all confidence (Dice's
coefficient).
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from spillover.common.tasks import spec_for
from spillover.common.tasks.classification import CLASSIFICATION
from spillover.common.tasks.detection import DETECTION, MATCH_IOU, pairwise_iou
from spillover.common.types import Classification, Detections, Prediction


def fidelity(whole: Sequence[Prediction], coded: Sequence[Prediction]) -> float:
    """Share of `whole` that remains in `coded`, 0..1, over pictures in the same order."""
    shares = [fidelity_terms(a, b) for a, b in zip(whole, coded, strict=True)]
    part, whole_sum = (sum(side) for side in zip(*shares, strict=True)) if shares else (0.0, 0.0)
    return part / whole_sum if whole_sum else 1.0


def fidelity_terms(whole: Prediction, coded: Prediction) -> tuple[float, float]:
    """What one picture adds to the numerator and to the denominator of the fidelity."""
    task = spec_for(whole)
    if task.name not in _TERMS:
        return task.agreement(whole, task.own(coded), 0.0), 1.0
    return _TERMS[task.name](whole, task.own(coded))


def lossless_term(whole: Prediction) -> float:
    """What a picture adds to both where coding loses nothing."""
    return fidelity_terms(whole, whole)[1]


def _class_terms(whole: Classification, coded: Classification) -> tuple[float, float]:
    same = whole.class_id == coded.class_id[0]
    return float(whole.probability[same].sum()), whole.top_confidence


def _box_terms(whole: Detections, coded: Detections) -> tuple[float, float]:
    total = float(whole.confidence.sum() + coded.confidence.sum())
    return 2 * matched_confidence(whole, coded), total


_TERMS: Mapping[str, Callable[[Any, Any], tuple[float, float]]] = MappingProxyType(
    {CLASSIFICATION.name: _class_terms, DETECTION.name: _box_terms}
)


def matched_confidence(whole: Detections, coded: Detections) -> float:
    """Sum of the smaller of the two confidences over all matched boxes."""
    overlap = pairwise_iou(whole.xyxy, coded.xyxy)
    overlap[whole.class_id[:, None] != coded.class_id[None]] = 0
    total = 0.0
    for row in range(len(whole)):
        if len(coded) and overlap[row].max() >= MATCH_IOU:
            column = int(overlap[row].argmax())
            overlap[:, column] = 0
            total += float(min(whole.confidence[row], coded.confidence[column]))
    return total
