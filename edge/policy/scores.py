"""Scores of a prediction: how much the cloud's answer could add.

A higher score always means more to gain. The workbench draws its curves from the same table of scorers; tasks
without a scorer use `doubt`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from spillover.common.tasks.classification import CLASSIFICATION
from spillover.common.tasks.detection import DETECTION
from spillover.common.types import Detections, Prediction


@dataclass(frozen=True, slots=True)
class ScoreSettings:
    """Numbers that scores of detections depend on.

    Boxes count as detected from `report_threshold` up; `band` is the distance from it within which a box is
    doubtful. There are boxes below the report threshold only if the model's own `confidence_threshold` is
    lower.
    """

    report_threshold: float = 0.5
    band: float = 0.15


@dataclass(frozen=True, slots=True)
class Scorer:
    """A named score of predictions of `task`; `most` is the highest there can be."""

    task: str
    function: Callable[[Prediction, ScoreSettings], float | None]
    most: float = 1.0

    def __call__(self, prediction: Prediction, settings: ScoreSettings | None = None) -> float | None:
        """The score, or None if the prediction has nothing to score."""
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
    """`1 - c` with c the highest confidence, for tasks without a scorer."""
    return 1.0 - prediction.top_confidence


def mean_score(prediction: Prediction, settings: ScoreSettings) -> float | None:
    """`1 - mean confidence` of the reported boxes; None without any."""
    confidence = DETECTION.own(prediction).confidence
    reported = confidence[confidence >= settings.report_threshold]
    return 1.0 - float(reported.mean()) if reported.size else None


def near_threshold(prediction: Prediction, settings: ScoreSettings) -> float | None:
    """`n / (n + 1)` with n the boxes within `band` of the report threshold: 0 without one, 0.5 with one.

    None without boxes in or above the band.
    """
    detections = DETECTION.own(prediction)
    if not (detections.confidence >= settings.report_threshold - settings.band).any():
        return None
    count = np.count_nonzero(doubtful(detections, settings))
    return float(count / (count + 1))


def doubtful(detections: Detections, settings: ScoreSettings) -> npt.NDArray[np.bool_]:
    """Which boxes (N,) are within `band` of the report threshold."""
    confidence, threshold = detections.confidence, settings.report_threshold
    return (confidence >= threshold - settings.band) & (confidence <= threshold + settings.band)


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
