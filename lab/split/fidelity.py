"""How much of the whole network's answers is left when its features were coded; needs no labels.

The whole network's answer is taken for the truth, with its own confidences as probabilities. For a
classifier: the probability that the whole network gives to the class chosen from coded features, over the
probability it gives to its own choice. A calibrated network's expected relative accuracy is just that. For a
detector: boxes matched by class and IoU >= 0.5, best confidence first; twice the confidence matched over all
confidence (Dice's coefficient).
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from spillover.common.tasks import spec_for
from spillover.common.tasks.classification import CLASSIFICATION
from spillover.common.tasks.detection import DETECTION, MATCH_IOU, pairwise_iou
from spillover.common.types import Classification, Detections, Prediction


def fidelity(whole: Sequence[Prediction], coded: Sequence[Prediction]) -> float:
    """Share of `whole` that is left in `coded`, 0..1, over pictures in the same order."""
    shares = [kept_of(a, b) for a, b in zip(whole, coded, strict=True)]
    kept, there = (sum(side) for side in zip(*shares, strict=True)) if shares else (0.0, 0.0)
    return kept / there if there else 1.0


def kept_of(whole: Prediction, coded: Prediction) -> tuple[float, float]:
    """What one picture adds to what is kept, and to all there is; their sums' ratio is the fidelity."""
    task = spec_for(whole)
    if task.name not in _KEPT:
        return task.agreement(whole, task.own(coded), 0.0), 1.0
    return _KEPT[task.name](whole, task.own(coded))


def kept_at_best(whole: Prediction) -> float:
    """What a picture adds to both where nothing is lost."""
    return kept_of(whole, whole)[1]


def _kept_class(whole: Classification, coded: Classification) -> tuple[float, float]:
    same = whole.class_id == coded.class_id[0]
    return float(whole.probability[same].sum()), whole.top_confidence


def _kept_boxes(whole: Detections, coded: Detections) -> tuple[float, float]:
    return 2 * matched_confidence(whole, coded), float(whole.confidence.sum() + coded.confidence.sum())


_KEPT: Mapping[str, Callable[[Any, Any], tuple[float, float]]] = MappingProxyType(
    {CLASSIFICATION.name: _kept_class, DETECTION.name: _kept_boxes}
)


def matched_confidence(whole: Detections, coded: Detections) -> float:
    """Sum, over boxes that were found again, of the smaller of the two confidences."""
    overlap = pairwise_iou(whole.xyxy, coded.xyxy)
    overlap[whole.class_id[:, None] != coded.class_id[None]] = 0
    total = 0.0
    for row in range(len(whole)):
        if len(coded) and overlap[row].max() >= MATCH_IOU:
            column = int(overlap[row].argmax())
            overlap[:, column] = 0
            total += float(min(whole.confidence[row], coded.confidence[column]))
    return total
