"""Scores of a prediction: how much the cloud's answer could add, and where in the frame it could.

A higher score is always more to gain. The workbench draws its curves from the same table of scorers; a task
without a scorer there is scored by `doubt`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from spillover.common.tasks.classification import CLASSIFICATION
from spillover.common.tasks.detection import DETECTION
from spillover.common.types import Detections, Image, Prediction, Region

MARGIN = 0.2
"""Widens a region by this share of itself, on every side: what is around a thing helps to tell it."""
LEAST_SIDE = 0.5
"""Of the frame's shorter side; in a smaller region things would look larger than any in training did."""
MOST_SHARE = 0.7
"""Of the frame's pixels; a larger region saves too little for what is lost beside it."""


@dataclass(frozen=True, slots=True)
class ScoreSettings:
    """Numbers that scores of detections depend on.

    Boxes count as detected from `report_threshold` up; `band` is the distance from it within which a box is
    in doubt. Boxes below the report threshold are there to be seen only when the model's own
    `confidence_threshold` is lower.
    """

    report_threshold: float = 0.5
    band: float = 0.15


@dataclass(frozen=True, slots=True)
class Scorer:
    """A named score; `task` names the task whose predictions it is for."""

    task: str
    function: Callable[[Prediction, ScoreSettings], float | None]

    def __call__(self, prediction: Prediction, settings: ScoreSettings | None = None) -> float | None:
        """The score, or None where there is nothing in the picture to judge by."""
        return self.function(prediction, settings or ScoreSettings())


def max_softmax(prediction: Prediction, _: ScoreSettings) -> float:
    """`1 - p1` (Hendrycks and Gimpel, arXiv 1610.02136)."""
    probability = CLASSIFICATION.own(prediction).probability
    return 1.0 - float(probability[0])


def margin(prediction: Prediction, _: ScoreSettings) -> float:
    """`1 - (p1 - p2)`: best versus second best (Joshi et al., CVPR 2009)."""
    probability = CLASSIFICATION.own(prediction).probability
    second = float(probability[1]) if probability.size > 1 else 0.0
    return 1.0 - (float(probability[0]) - second)


def entropy(prediction: Prediction, _: ScoreSettings) -> float:
    """Shannon entropy over `log K`, so 0..1 whatever the number of classes K."""
    probability = CLASSIFICATION.own(prediction).probability
    if probability.size < 2:
        return 0.0
    positive = probability[probability > 0].astype(np.float64)
    return float(-(positive * np.log(positive)).sum() / np.log(probability.size))


def doubt(prediction: Prediction, _: ScoreSettings) -> float:
    """One less the confidence of the surest part: for tasks without a score of their own."""
    return 1.0 - prediction.top_confidence


def mean_score(prediction: Prediction, settings: ScoreSettings) -> float | None:
    """`1 - mean confidence` of the reported boxes; None without any."""
    confidence = DETECTION.own(prediction).confidence
    reported = confidence[confidence >= settings.report_threshold]
    return 1.0 - float(reported.mean()) if reported.size else None


def near_threshold(prediction: Prediction, settings: ScoreSettings) -> float | None:
    """Number of boxes within `band` of the report threshold; None without boxes in or above the band."""
    detections = DETECTION.own(prediction)
    if not (detections.confidence >= settings.report_threshold - settings.band).any():
        return None
    return float(np.count_nonzero(doubtful(detections, settings)))


def doubtful(detections: Detections, settings: ScoreSettings) -> npt.NDArray[np.bool_]:
    """Which boxes (N,) are within `band` of the report threshold."""
    confidence, threshold = detections.confidence, settings.report_threshold
    return (confidence >= threshold - settings.band) & (confidence <= threshold + settings.band)


def doubtful_region(prediction: Prediction, image: Image, settings: ScoreSettings) -> Region | None:
    """The region around the boxes in doubt, those that `near_threshold` counts, within the frame (H, W, 3).

    None without such a box, and where the region would be nearly the whole frame.
    """
    seen = prediction.boxes
    if seen is None or not len(boxes := seen[doubtful(seen, settings)].xyxy):
        return None
    height, width = image.shape[:2]
    least = math.ceil(LEAST_SIDE * min(height, width))
    (left, top), (right, bottom) = boxes[:, :2].min(axis=0).tolist(), boxes[:, 2:].max(axis=0).tolist()
    x, y = _widened(left, right, least, width), _widened(top, bottom, least, height)
    region = Region(x[0], y[0], x[1], y[1])
    return region if region.share_of(image) <= MOST_SHARE else None


def _widened(low: float, high: float, least: int, limit: int) -> tuple[int, int]:
    """The stretch with its margins, at least so long, moved and cut to lie within 0 and `limit`."""
    grow = max(MARGIN * (high - low), (least - (high - low)) / 2)
    begin, end = math.floor(low - grow), math.ceil(high + grow)
    if begin < 0:
        begin, end = 0, max(end, least)
    if end > limit:
        begin, end = min(begin, limit - least), limit
    return max(0, begin), min(limit, end)


SCORERS: Mapping[str, Scorer] = MappingProxyType(
    {
        "max_softmax": Scorer(CLASSIFICATION.name, max_softmax),
        "margin": Scorer(CLASSIFICATION.name, margin),
        "entropy": Scorer(CLASSIFICATION.name, entropy),
        "mean_score": Scorer(DETECTION.name, mean_score),
        "near_threshold": Scorer(DETECTION.name, near_threshold),
    }
)


def scorers_for(task: str) -> Mapping[str, Scorer]:
    """The scores for a task's predictions, by name."""
    fitting = {name: scorer for name, scorer in SCORERS.items() if scorer.task == task}
    return fitting or {"doubt": Scorer(task, doubt)}
