"""Accuracy of a mixture: some pictures answered by the cloud, the rest by the edge."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

import numpy as np
import numpy.typing as npt

from spillover.common.types import Prediction
from spillover.lab.data.labelled import ClassLabels, CocoTruth
from spillover.lab.pairs.evaluate.detection import BoxMixture, mean_average_precision

Sent = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]


class Mixture(Protocol):
    """Both models' answers to one labelled set.

    `pictures` (M,) numbers the pictures that count, repeats allowed; None counts all of the set once.
    """

    metric: str

    def __len__(self) -> int:
        """The number of pictures in the set."""
        ...

    def accuracy(self, sent: Sent, pictures: Indices | None = None) -> float:
        """Accuracy when the cloud answers the pictures in `sent`, a mask over the pictures that count."""
        ...

    def gap(self, pictures: Indices | None = None) -> tuple[float, float]:
        """Accuracy of the edge's model alone and of the cloud's."""
        ...

    def reward(self) -> Floats:
        """What sending each picture of the set gains, (N,), judged by the labels."""
        ...


class ClassMixture:
    """Top-1 accuracy; the reward is whether the cloud is right minus whether the edge is."""

    metric = "top1"

    def __init__(
        self,
        truth: ClassLabels,
        edge: Sequence[Prediction],
        cloud: Sequence[Prediction],
        plain: Sequence[Prediction] | None = None,
    ) -> None:
        self.edge_right = correct(truth, edge)
        self.cloud_right = correct(truth, cloud)
        self._plain_right = self.edge_right if plain is None else correct(truth, plain)

    def __len__(self) -> int:
        return len(self.edge_right)

    def accuracy(self, sent: Sent, pictures: Indices | None = None) -> float:
        """Share of the pictures whose answer is right."""
        chosen = slice(None) if pictures is None else pictures
        return float(np.where(sent, self.cloud_right[chosen], self.edge_right[chosen]).mean())

    def gap(self, pictures: Indices | None = None) -> tuple[float, float]:
        """Both ends; the lower is that of `plain`, where the edge does more than its model."""
        chosen = slice(None) if pictures is None else pictures
        return float(self._plain_right[chosen].mean()), float(self.cloud_right[chosen].mean())

    def reward(self) -> Floats:
        """1 where only the cloud is right, -1 where only the edge is, else 0."""
        return self.cloud_right.astype(np.float64) - self.edge_right


MIXTURES: Mapping[str, Callable[..., Mixture]] = MappingProxyType(
    {ClassLabels.task: ClassMixture, CocoTruth.task: BoxMixture}
)
"""How answers of each task are judged."""


def mixture_of(
    truth: ClassLabels | CocoTruth,
    edge: Sequence[Prediction],
    cloud: Sequence[Prediction],
    plain: Sequence[Prediction] | None = None,
) -> Mixture:
    """The mixture for these labels; `plain` holds the edge model's own answers where they differ."""
    return MIXTURES[truth.task](truth, edge, cloud, plain)


def accuracy_of(truth: ClassLabels | CocoTruth, predictions: Sequence[Prediction]) -> float:
    """Top-1 accuracy, or mean average precision over IoU 0.50:0.95, of one model over the whole set."""
    if isinstance(truth, ClassLabels):
        return float(correct(truth, predictions).mean())
    return mean_average_precision(truth, predictions).ap


def correct(truth: ClassLabels, predictions: Sequence[Prediction]) -> Sent:
    """Whether each prediction's best class is the true one, (N,)."""
    best = [p.top_class for p in predictions]
    right: Sent = np.array(best) == truth.class_id
    return right
