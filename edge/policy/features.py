"""What the expected gain is computed from: numbers that describe one prediction of the edge, nothing else."""

import numpy as np
import numpy.typing as npt

from spillover.common.types import Classification, Detections

Features = npt.NDArray[np.float64]

TOP = 5
FEW_CLASSES = 100
"""Up to so many classes each has features of its own; for more there are never enough pictures."""
RUNS = 20
"""Of neighbouring class numbers: with many classes, what stands for the kind of thing that is seen."""
COUNTED = (0.03, 0.1, 0.3)
_TINY = 1e-6


def classification_features(prediction: Classification, classes: int, temperature: float) -> Features:
    """The shape of the distribution at `temperature` (Guo et al., ICML 2017), and with few classes, which.

    With more than 100 classes the best probability, the margin, the entropy, and the sums over 20 equal
    runs of class numbers: ImageNet's order follows WordNet, so that a run is birds, or dogs. Otherwise the
    top five probabilities and their logarithms, margin in both, entropy, sum of squares, the probability of
    each class, and the best one as one-hot.
    """
    probability = tempered(prediction.probability, temperature)
    top = np.zeros(TOP)
    top[: min(TOP, probability.size)] = probability[:TOP]
    log_top = np.log(np.maximum(top, _TINY))
    entropy = -float(probability @ np.log(np.maximum(probability, 1e-12)))
    if classes > FEW_CLASSES:
        return np.concatenate([[top[0], top[0] - top[1], entropy], _by_run(prediction, probability, classes)])
    shape = [top[0] - top[1], log_top[0] - log_top[1], entropy, float(probability @ probability)]
    by_class = _by_class(prediction, probability, classes)
    return np.concatenate([top, log_top, np.array(shape), *by_class])


def detection_features(prediction: Detections, class_weight: Features, seen_from: float) -> Features:
    """How many boxes, how doubtful they are, and how rare what they show is.

    Mean average precision weighs classes alike, so a box of a rare class is worth more: `class_weight`
    (classes,) says how much. Logarithms of the sums of c, c(1-c) and c^2 and of weighted counts from three
    confidences up; roots of the weighted sums of c and c(1-c). Boxes of classes without a weight count
    nothing, nor do those below `seen_from`.
    """
    known = (prediction.class_id < class_weight.size) & (prediction.confidence >= seen_from)
    c, class_id = prediction.confidence[known].astype(np.float64), prediction.class_id[known]
    weight = class_weight[class_id]
    mass = np.stack([c, c * (1.0 - c), c**2])
    counts = [weight[c > seen].sum() for seen in COUNTED]
    return np.concatenate([np.log1p([*mass.sum(axis=1), *counts]), np.sqrt(mass[:2] @ weight)])


def tempered(probability: npt.NDArray[np.floating], temperature: float) -> Features:
    """The softmax as it would be if logits were divided by `temperature`."""
    scaled = np.log(np.maximum(probability.astype(np.float64), 1e-12)) / temperature
    exponent = np.exp(scaled - scaled.max())
    softened: Features = exponent / exponent.sum()
    return softened


def _by_run(prediction: Classification, probability: Features, classes: int) -> Features:
    known = prediction.class_id < classes
    run = prediction.class_id[known] * RUNS // classes
    sums: Features = np.bincount(run, weights=probability[known], minlength=RUNS).astype(np.float64)
    return sums


def _by_class(prediction: Classification, probability: Features, classes: int) -> list[Features]:
    each, best = np.zeros(classes), np.zeros(classes)
    known = prediction.class_id < classes
    each[prediction.class_id[known]] = probability[known]
    best[prediction.class_id[:1][known[:1]]] = 1.0
    return [each, best]
