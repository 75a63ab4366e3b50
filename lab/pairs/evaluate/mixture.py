"""Accuracy of a mixture: some pictures answered by the cloud, the rest by the edge."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

import numpy as np
import numpy.typing as npt

from spillover.common.types import Prediction
from spillover.lab.data.labelled import ClassLabels, CocoTruth
from spillover.lab.pairs.evaluate.detection import BoxMixture

Sent = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


class Mixture(Protocol):
    """Both models' answers to one labelled set."""

    metric: str

    def __len__(self) -> int:
        """The number of pictures."""
        ...

    def accuracy(self, sent: Sent) -> float:
        """Accuracy when the pictures in `sent` (N,) are answered by the cloud."""
        ...

    def gap(self, pictures: npt.NDArray[np.intp] | None = None) -> tuple[float, float]:
        """Accuracy of the plain edge and of the cloud, over all or the numbered pictures."""
        ...

    def resampled_accuracy(self, sent: Sent, pictures: npt.NDArray[np.intp]) -> float:
        """Accuracy over the numbered `pictures` (any number, repeats allowed); `sent` is as long as these."""
        ...

    def reward(self) -> Floats:
        """What sending each picture gains, (N,): the order of the oracle, who knows the labels."""
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

    def accuracy(self, sent: Sent) -> float:
        """Share of the pictures whose answer is right."""
        return float(np.where(sent, self.cloud_right, self.edge_right).mean())

    def gap(self, pictures: npt.NDArray[np.intp] | None = None) -> tuple[float, float]:
        """Both ends; the lower is that of `plain`, where the edge's answers are not the model's alone."""
        chosen = slice(None) if pictures is None else pictures
        return float(self._plain_right[chosen].mean()), float(self.cloud_right[chosen].mean())

    def resampled_accuracy(self, sent: Sent, pictures: npt.NDArray[np.intp]) -> float:
        """The same over numbered pictures."""
        return float(np.where(sent, self.cloud_right[pictures], self.edge_right[pictures]).mean())

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
    """The mixture that these labels can judge; `plain` is what the model alone says, if that differs."""
    return MIXTURES[truth.task](truth, edge, cloud, plain)


def correct(truth: ClassLabels, predictions: Sequence[Prediction]) -> Sent:
    """Whether each prediction's best class is the true one, (N,)."""
    best = [p.top_class for p in predictions]
    right: Sent = np.array(best) == truth.class_id
    return right
