"""Expected gain: how much better the cloud's answer is likely to be, from the edge's own prediction alone.

A linear function of features, fitted by `spillover lab fit` and read from a small JSON file. Its unit is the
gain that the workbench measured: for a classification the probability that the cloud is right minus that the
edge is; for a detection how much better its boxes' confidences are, see `lab.pairs.fit.targets`.
"""

from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np

from spillover.common.config import Section
from spillover.common.errors import ConfigError
from spillover.common.model.calibration import Calibration
from spillover.common.model.manifest import Manifest, Task
from spillover.common.types import Classification, Detections, Prediction
from spillover.edge.config import MultiViewConfig
from spillover.edge.policy.features import Features, classification_features, detection_features

Positive = Annotated[float, msgspec.Meta(gt=0)]


class EdgeSide(Section, frozen=True):
    """What predicts on the edge: a gain that was fitted to one of these means nothing for another."""

    model: str
    """`name@version`."""
    sha256: str
    """Of the network."""
    confidence_threshold: Annotated[float, msgspec.Meta(ge=0, le=1)]
    """Detections: boxes of less confidence are not seen."""
    calibration: Calibration | None = None
    """Detections: `output.calibration` of its model.yaml."""
    multi_view: MultiViewConfig | None = None

    @classmethod
    def of(cls, manifest: Manifest, multi_view: MultiViewConfig | None = None) -> "EdgeSide":
        """An edge with the model of this manifest."""
        output, name = manifest.output, f"{manifest.name}@{manifest.version}"
        return cls(name, manifest.sha256, output.confidence_threshold, output.calibration, multi_view)


class GainFile(Section, frozen=True):
    """What `lab fit` writes: gain = bias + weights . (features - mean) / scale."""

    task: Task
    edge: EdgeSide
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
    fidelity: dict[str, float] = msgspec.field(default_factory=dict)
    """By name of the picture variant, the share of the cloud's answers that stay as they are."""
    gain_quantiles: tuple[float, ...] = ()
    """Predicted gain on unseen pictures at 0, 1 ... 100 %: threshold `gain_quantiles[80]` sends a fifth."""


class GainModel:
    """Predicts the gain of one picture; same task and classes as the model it was fitted for.

    Raises:
        ConfigError: the file's lists do not fit its features.
    """

    def __init__(self, file: GainFile, name: str = "gain file") -> None:
        self.file = file
        self._name = name
        self._mean, self._scale = np.array(file.mean), np.array(file.scale)
        self._weights, self._class_weight = np.array(file.weights), np.array(file.class_weight)
        size = len(self.features(_nothing(file.task)))
        if not len(file.mean) == len(file.scale) == len(file.weights) == size:
            raise ConfigError(f"{name}: for {file.edge.model}, its lists must have {size} numbers each")

    @classmethod
    def load(cls, path: Path) -> "GainModel":
        """Read a gain file. Raises ConfigError."""
        try:
            return cls(msgspec.json.decode(path.read_bytes(), type=GainFile), str(path))
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
        except msgspec.DecodeError as error:
            raise ConfigError(f"{path}: not a gain file: {error}") from error

    def check_fits(self, edge: EdgeSide) -> None:
        """Refuse an edge that differs from the one that this was fitted to.

        Raises:
            ConfigError: naming the file and the first key that differs.
        """
        for key in EdgeSide.__struct_fields__:
            fitted, found = getattr(self.file.edge, key), getattr(edge, key)
            if fitted != found:
                raise ConfigError(
                    f"{self._name}: fitted to an edge whose {key} is {_told(fitted)}; here it is "
                    f"{_told(found)}: fit it anew with `spillover lab fit`"
                )

    def gain(self, prediction: Prediction) -> float:
        """Expected gain of sending the picture that got this prediction."""
        z = (self.features(prediction) - self._mean) / self._scale
        return float(z @ self._weights) + self.file.bias

    def features(self, prediction: Prediction) -> Features:
        """The features that the weights belong to."""
        file = self.file
        seen_from = file.edge.confidence_threshold
        return features_of(prediction, file.classes, file.temperature, self._class_weight, seen_from)


def features_of(
    prediction: Prediction, classes: int, temperature: float, class_weight: Features, seen_from: float
) -> Features:
    """Features of either kind of prediction."""
    if isinstance(prediction, Classification):
        return classification_features(prediction, classes, temperature)
    return detection_features(prediction, class_weight, seen_from)


def _told(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _nothing(task: Task) -> Prediction:
    """A prediction that says nothing."""
    if task is Task.CLASSIFICATION:
        return Classification(np.zeros(1, np.int32), np.ones(1, np.float32))
    return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))
