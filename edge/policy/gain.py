"""Expected gain: how much better the cloud's answer is likely to be, from the edge's own prediction alone.

A linear function of features, fitted by `spillover lab fit` and read from a small JSON file. Its unit is the
gain that the workbench measured: for a classification the probability that the cloud is right minus that
the edge is; for a detection the ORIC reward (SEC 2024), a picture's share in mean average precision.
"""

from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np

from common.config import Section
from common.errors import ConfigError
from common.model.manifest import Task
from common.types import Classification, Detections, Prediction
from edge.policy.features import Features, classification_features, detection_features

Positive = Annotated[float, msgspec.Meta(gt=0)]


class GainFile(Section, frozen=True):
    """What `lab fit` writes: gain = bias + weights . (features - mean) / scale."""

    task: Task
    edge_model: str
    """`name@version` of the model whose predictions this is for; another's are not on the same scale."""
    cloud_model: str
    classes: Annotated[int, msgspec.Meta(gt=0)]
    temperature: Positive
    mean: tuple[float, ...]
    scale: tuple[Positive, ...]
    weights: tuple[float, ...]
    bias: float
    pictures: int
    data_sha256: str
    """Of the pictures it was fitted on, so that nobody scores it on the same ones by mistake."""
    gain_quantiles: tuple[float, ...] = ()
    """Predicted gain on unseen pictures at 0, 1 ... 100 %: threshold `gain_quantiles[80]` sends a fifth."""


class GainModel:
    """Predicts the gain of one picture; same task and classes as the model it was fitted for.

    Raises:
        ConfigError: the file's lists do not fit its features.
    """

    def __init__(self, file: GainFile) -> None:
        self.file = file
        # (x - mean) / scale . w + b, as one product
        self._weights: Features = (
            np.array(file.weights) / np.array(file.scale) if file.weights else np.zeros(0)
        )
        size = len(self._blank())
        if not len(file.mean) == len(file.scale) == len(file.weights) == size:
            raise ConfigError(f"gain file for {file.edge_model}: its lists must have {size} numbers each")
        self._bias = file.bias - float(self._weights @ np.array(file.mean))

    @classmethod
    def load(cls, path: Path) -> "GainModel":
        """Read a gain file. Raises ConfigError."""
        try:
            return cls(msgspec.json.decode(path.read_bytes(), type=GainFile))
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
        except msgspec.DecodeError as error:
            raise ConfigError(f"{path}: not a gain file: {error}") from error

    def gain(self, prediction: Prediction) -> float:
        """Expected gain of sending the picture that got this prediction."""
        return float(self.features(prediction) @ self._weights) + self._bias

    def features(self, prediction: Prediction) -> Features:
        """The features that the weights belong to."""
        return features_of(prediction, self.file.classes, self.file.temperature)

    def _blank(self) -> Features:
        return features_of(_nothing(self.file.task), self.file.classes, self.file.temperature)


def features_of(prediction: Prediction, classes: int, temperature: float) -> Features:
    """Features of either kind of prediction."""
    if isinstance(prediction, Classification):
        return classification_features(prediction, classes, temperature)
    return detection_features(prediction, classes)


def _nothing(task: Task) -> Prediction:
    """A prediction that says nothing."""
    if task is Task.CLASSIFICATION:
        return Classification(np.zeros(1, np.int32), np.ones(1, np.float32))
    return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))
