"""Expected gain: how much better the cloud's answer is likely to be, from the edge's own prediction alone.

A function of features, fitted by `spillover lab fit` and read from a small JSON file: linear for
classifications, linear in random waves of the features for detections. Its unit is the gain that the
workbench measured: for a classification the probability that the cloud is right minus that the edge is; for a
detection how much better its boxes' confidences are, see `lab.policy.targets`.
"""

from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np

from common.config import Section
from common.errors import ConfigError
from common.model.calibration import Calibration
from common.model.manifest import Task
from common.types import Classification, Detections, Prediction
from edge.policy.features import Features, classification_features, detection_features

Positive = Annotated[float, msgspec.Meta(gt=0)]


class Waves(Section, frozen=True):
    """Random Fourier features of a Gaussian kernel (Rahimi and Recht, NeurIPS 2007): `cos(F z + phase)`."""

    frequencies: tuple[tuple[float, ...], ...]
    phases: tuple[float, ...]


class GainFile(Section, frozen=True):
    """What `lab fit` writes: gain = bias + weights . z, z = (features - mean) / scale or waves of that."""

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
    class_weight: tuple[float, ...] = ()
    """Detections: what a box of each class counts."""
    seen_from: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    """Detections: boxes of less confidence do not count; the model's `confidence_threshold` or more."""
    waves: Waves | None = None
    calibration: Calibration | None = None
    """Detections: what the edge's model.yaml had for `output.calibration` when this was fitted."""
    gain_quantiles: tuple[float, ...] = ()
    """Predicted gain on unseen pictures at 0, 1 ... 100 %: threshold `gain_quantiles[80]` sends a fifth."""


class GainModel:
    """Predicts the gain of one picture; same task and classes as the model it was fitted for.

    Raises:
        ConfigError: the file's lists do not fit its features.
    """

    def __init__(self, file: GainFile) -> None:
        self.file = file
        self._mean, self._scale = np.array(file.mean), np.array(file.scale)
        self._weights, self._class_weight = np.array(file.weights), np.array(file.class_weight)
        size = len(self.features(_nothing(file.task)))
        if not len(file.mean) == len(file.scale) == size:
            raise ConfigError(f"gain file for {file.edge_model}: its lists must have {size} numbers each")
        self._waves = _waves_for(file.waves, size) if file.waves else None
        wanted = len(file.waves.phases) if file.waves else size
        if len(file.weights) != wanted:
            raise ConfigError(f"gain file for {file.edge_model}: weights must have {wanted} numbers")

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
        z = (self.features(prediction) - self._mean) / self._scale
        seen = np.cos(self._waves[0] @ z + self._waves[1]) if self._waves else z
        return float(seen @ self._weights) + self.file.bias

    def features(self, prediction: Prediction) -> Features:
        """The features that the weights belong to."""
        file = self.file
        return features_of(prediction, file.classes, file.temperature, self._class_weight, file.seen_from)


def features_of(
    prediction: Prediction, classes: int, temperature: float, class_weight: Features, seen_from: float
) -> Features:
    """Features of either kind of prediction."""
    if isinstance(prediction, Classification):
        return classification_features(prediction, classes, temperature)
    return detection_features(prediction, class_weight, seen_from)


def _waves_for(waves: Waves, size: int) -> tuple[Features, Features]:
    """Frequencies (W, size) and phases (W,)."""
    if any(len(row) != size for row in waves.frequencies) or len(waves.frequencies) != len(waves.phases):
        raise ConfigError(f"gain file: waves.frequencies must be {len(waves.phases)} rows of {size} numbers")
    return np.array(waves.frequencies), np.array(waves.phases)


def _nothing(task: Task) -> Prediction:
    """A prediction that says nothing."""
    if task is Task.CLASSIFICATION:
        return Classification(np.zeros(1, np.int32), np.ones(1, np.float32))
    return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))
