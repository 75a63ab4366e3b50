"""What the estimator learns: how much each picture gains when the cloud answers it."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from common.model.manifest import Task
from common.types import Classification, Detections, Prediction
from edge.policy.features import tempered
from lab.data.labelled import ClassLabels, CocoTruth
from lab.evaluate.detection import BoxMixture
from lab.evaluate.mixture import ClassMixture, Floats, Mixture

Indices = npt.NDArray[np.intp]

TEMPERATURES = np.geomspace(0.25, 4.0, 33)
TEACHER_CONFIDENCE = 0.3
ENOUGH_FOR_ONE_NUMBER = 400


class Target(Protocol):
    """Gains of some pictures, computed from these pictures alone, so that the others stay unseen."""

    def __call__(self, pictures: Indices) -> Floats:
        """One gain a picture."""
        ...


def target_of(mixture: Mixture) -> Target:
    """The gain that fits the kind of mixture."""
    if isinstance(mixture, BoxMixture):
        return OricReward(mixture)
    assert isinstance(mixture, ClassMixture)  # noqa: S101 - there are two kinds
    rewards = mixture.reward()
    return lambda pictures: rewards[pictures]


class OricReward:
    """ORIC (Wang et al., SEC 2024): (|E| + 1) [mAP(strong_i with weak_E) - mAP(weak_i with weak_E)].

    The context E is all other pictures that may be seen, which has less noise than small random ones. The
    outermost tenth of the rewards is pulled in: where a class has one object, a single box decides its AP.
    """

    def __init__(self, mixture: BoxMixture) -> None:
        self._mixture = mixture

    def __call__(self, pictures: Indices) -> Floats:
        """Rewards of `pictures`, each in the context of the rest of them."""
        sent = np.zeros(len(self._mixture), np.bool_)
        base = self._mixture.precision(sent, pictures).ap
        rewards = np.empty(len(pictures))
        for n, picture in enumerate(pictures):
            sent[picture] = True
            rewards[n] = len(pictures) * (self._mixture.precision(sent, pictures).ap - base)
            sent[picture] = False
        clipped: Floats = np.clip(rewards, *np.quantile(rewards, [0.05, 0.95]))
        return clipped


def fit_temperature(predictions: Sequence[Prediction], class_id: npt.NDArray[np.int64]) -> float:
    """The temperature with the least negative log-likelihood of the true classes (Guo et al., ICML 2017)."""
    few = np.unique(np.linspace(0, len(predictions) - 1, ENOUGH_FOR_ONE_NUMBER).astype(np.intp))
    losses = [
        np.mean([_loss(predictions[i], int(class_id[i]), temperature) for i in few])
        for temperature in TEMPERATURES
    ]
    return float(TEMPERATURES[int(np.argmin(losses))])


def _loss(prediction: Prediction, class_id: int, temperature: float) -> float:
    assert isinstance(prediction, Classification)  # noqa: S101 - the caller knows the task
    probability = tempered(prediction.probability, temperature)
    return -float(np.log(np.maximum(probability[prediction.class_id == class_id], 1e-12)).sum())


def taught_by(task: Task, cloud: Sequence[Prediction], classes: int) -> ClassLabels | CocoTruth:
    """The cloud's own answers in the place of labels; boxes count from confidence 0.3 up."""
    if task is Task.CLASSIFICATION:
        return ClassLabels(np.array([p.class_id[0] for p in cloud], np.int64))
    annotations: list[dict[str, object]] = []
    for image_id, prediction in enumerate(cloud):
        assert isinstance(prediction, Detections)  # noqa: S101 - the caller knows the task
        for xyxy, confidence, class_id in zip(
            prediction.xyxy.tolist(), prediction.confidence, prediction.class_id.tolist(), strict=True
        ):
            if confidence >= TEACHER_CONFIDENCE:
                width, height = xyxy[2] - xyxy[0], xyxy[3] - xyxy[1]
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": image_id,
                        "category_id": class_id,
                        "bbox": [xyxy[0], xyxy[1], width, height],
                        "area": width * height,
                        "iscrowd": 0,
                    }
                )
    instances = {
        "images": [{"id": i} for i in range(len(cloud))],
        "annotations": annotations,
        "categories": [{"id": i, "name": str(i)} for i in range(classes)],
    }
    return CocoTruth(instances, tuple(range(len(cloud))))
