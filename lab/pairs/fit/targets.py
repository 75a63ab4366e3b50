"""The targets of the fit: how much each picture gains when the cloud answers it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Protocol

import numpy as np
import numpy.typing as npt

from spillover.common.tasks.classification import CLASSIFICATION
from spillover.common.types import Classification, Detections, Prediction
from spillover.edge.policy.gain import FeatureSettings, tempered
from spillover.lab.data.labelled import ClassLabels, CocoTruth
from spillover.lab.pairs.evaluate.mixture import Floats, Indices, Mixture
from spillover.lab.pairs.fit.calibrate import boxes_of, confidence_of_same
from spillover.lab.pairs.fit.matching import Objects, shares_right, true_objects

TEMPERATURES = np.geomspace(0.25, 4.0, 33)
TEACHER_CONFIDENCE = 0.3
TEMPERATURE_PICTURES = 400
"""Enough to fit one number."""


class Target(Protocol):
    """Gains of some pictures, computed from these pictures alone, so that the others stay unseen."""

    def __call__(self, pictures: Indices) -> Floats:
        """Gains (M,) of `pictures` (M,)."""
        ...

    def fitted(self, settings: FeatureSettings, pictures: Indices) -> FeatureSettings:
        """`settings` with the parameters of the features that are fitted on `pictures`."""
        ...


class ClassGain:
    """The mean of two gains: one by the label, one by the cloud's probabilities.

    By the label: 1 where only the cloud is right, -1 where only the edge is, else 0. By the cloud: its
    probability of its own class less that of the edge's class, at the temperature that fits the labels. It
    grades doubtful pictures where the label has only three values (distillation: Hinton et al., 2015).
    """

    def __init__(
        self, truth: ClassLabels, edge: Sequence[Prediction], cloud: Sequence[Prediction], mixture: Mixture
    ) -> None:
        self._truth = truth
        self._edge, self._cloud = _classified(edge), _classified(cloud)
        self._rewards = mixture.reward()

    def __call__(self, pictures: Indices) -> Floats:
        """Gains (M,) of `pictures` (M,)."""
        temperature = fit_temperature([self._cloud[i] for i in pictures], self._truth.class_id[pictures])
        believed = np.array([_believed(self._edge[i], self._cloud[i], temperature) for i in pictures])
        gains: Floats = (self._rewards[pictures] + believed) / 2
        return gains

    def fitted(self, settings: FeatureSettings, pictures: Indices) -> FeatureSettings:
        """With the temperature at which the edge's probabilities fit the labels."""
        temperature = fit_temperature([self._edge[i] for i in pictures], self._truth.class_id[pictures])
        return replace(settings, temperature=temperature)


class BoxGain:
    """How much better the cloud's confidences are than the edge's, box by box.

    A box of confidence c that is right at a share t of the IoU thresholds counts tc - c^2/2: half of what it
    takes off the squared error (Brier, 1950) against reporting no box. t is the mean of the labels' share and
    the cloud's confidence in that box. Boxes are weighted by how rare their class is, because mean average
    precision weighs classes alike. A reward in mAP itself (ORIC: Wang et al., SEC 2024) has the same aim, but
    single boxes of rare classes decide it; on 178 COCO pictures the fit to it was worse. Gains are clipped to
    their 5 % and 95 % quantiles.
    """

    def __init__(
        self, truth: CocoTruth, edge: Sequence[Prediction], cloud: Sequence[Prediction], classes: int
    ) -> None:
        objects = true_objects(truth)
        self._counts = np.array([np.bincount(o.class_id, minlength=classes)[:classes] for o in objects])
        edge_boxes, cloud_boxes = boxes_of(edge), boxes_of(cloud)
        self._edge, self._cloud = (
            self._worth(boxes, objects, list(map(confidence_of_same, boxes, cloud_boxes)))
            for boxes in (edge_boxes, cloud_boxes)
        )

    def fitted(self, settings: FeatureSettings, pictures: Indices) -> FeatureSettings:
        """With the weights of the classes."""
        return replace(settings, class_weight=self.class_weight(pictures))

    def class_weight(self, pictures: Indices) -> Floats:
        """The weight of a box of each class, (classes,): about 1 for a class as frequent as the mean."""
        counts = self._counts[pictures].sum(axis=0)
        weight: Floats = counts.mean() / (counts + 1.0)
        return weight

    def __call__(self, pictures: Indices) -> Floats:
        """Gains (M,) of `pictures` (M,)."""
        gains = (self._cloud - self._edge)[pictures] @ self.class_weight(pictures)
        clipped: Floats = np.clip(gains, *np.quantile(gains, [0.05, 0.95]))
        return clipped

    def _worth(
        self, boxes: Sequence[Detections], objects: Sequence[Objects], believed: Sequence[Floats]
    ) -> Floats:
        """Worth of the boxes of each class in each picture, (N, classes)."""
        worth = np.zeros(self._counts.shape)
        rights = shares_right(boxes, objects)
        for row, detections, right, belief in zip(worth, boxes, rights, believed, strict=True):
            known = detections.class_id < len(row)
            c = detections.confidence.astype(np.float64)
            np.add.at(row, detections.class_id[known], ((right + belief) / 2 * c - c**2 / 2)[known])
        return worth


def fit_temperature(predictions: Sequence[Classification], class_id: npt.NDArray[np.int64]) -> float:
    """The temperature with the least negative log-likelihood of the true classes (Guo et al., ICML 2017)."""
    few = np.unique(np.linspace(0, len(predictions) - 1, TEMPERATURE_PICTURES).astype(np.intp))
    losses = [
        np.mean([_loss(predictions[i], int(class_id[i]), temperature) for i in few])
        for temperature in TEMPERATURES
    ]
    return float(TEMPERATURES[int(np.argmin(losses))])


def _classified(predictions: Sequence[Prediction]) -> list[Classification]:
    return [CLASSIFICATION.own(prediction) for prediction in predictions]


def _believed(edge: Classification, cloud: Classification, temperature: float) -> float:
    """The cloud's probability of its own class less that of the edge's."""
    probability = tempered(cloud.probability, temperature)
    same = cloud.class_id == edge.class_id[0]
    return float(probability[0] - probability[same].sum())


def _loss(prediction: Classification, class_id: int, temperature: float) -> float:
    probability = tempered(prediction.probability, temperature)
    return -float(np.log(np.maximum(probability[prediction.class_id == class_id], 1e-12)).sum())


def _taught_classes(cloud: Sequence[Prediction], classes: int) -> ClassLabels:
    del classes
    return ClassLabels(np.array([prediction.top_class for prediction in cloud], np.int64))


def _taught_boxes(cloud: Sequence[Prediction], classes: int) -> CocoTruth:
    """Boxes of confidence 0.3 and more."""
    annotations: list[dict[str, object]] = []
    for image_id, answer in enumerate(boxes_of(cloud)):
        boxes = answer.above(TEACHER_CONFIDENCE)
        for xyxy, class_id in zip(boxes.xyxy.tolist(), boxes.class_id.tolist(), strict=True):
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


TARGETS: Mapping[str, Callable[..., Target]] = MappingProxyType(
    {
        ClassLabels.task: lambda truth, mixture, edge, cloud, _: ClassGain(truth, edge, cloud, mixture),
        CocoTruth.task: lambda truth, _, edge, cloud, classes: BoxGain(truth, edge, cloud, classes),
    }
)
"""By task; from truth, mixture, the edge's and the cloud's predictions, and the number of classes."""

_TAUGHT: Mapping[str, Callable[[Sequence[Prediction], int], ClassLabels | CocoTruth]] = MappingProxyType(
    {ClassLabels.task: _taught_classes, CocoTruth.task: _taught_boxes}
)


def taught_by(task: str, cloud: Sequence[Prediction], classes: int) -> ClassLabels | CocoTruth:
    """The cloud's answers in the place of labels."""
    return _TAUGHT[task](cloud, classes)
