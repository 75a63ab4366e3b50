"""Expected gain: how much better the cloud's answer is likely to be, from the edge's own prediction alone.

A linear function of features, fitted by `spillover lab fit` and read from a small JSON file. Its unit is the
gain that the workbench measured: for a classification the probability that the cloud is right minus that the
edge is; for a detection how much better its boxes' confidences are, see `lab.pairs.fit.targets`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

import msgspec
import numpy as np
import numpy.typing as npt

from spillover.common.config import Section, convert_config
from spillover.common.errors import ConfigError
from spillover.common.model.calibration import Calibration
from spillover.common.model.manifest import Manifest
from spillover.common.tasks import spec_of
from spillover.common.tasks.classification import CLASSIFICATION
from spillover.common.tasks.detection import DETECTION
from spillover.common.types import Classification, Detections, Prediction
from spillover.edge.config import MultiViewConfig

Features = npt.NDArray[np.float64]

TOP = 5
FEW_CLASSES = 100
"""Up to this many classes, each has its own features; with more there are too few pictures for each."""
RUNS = 20
"""Groups of neighbouring class numbers, which replace classes when there are many."""
COUNTED = (0.03, 0.1, 0.3)
_TINY = 1e-6

Positive = Annotated[float, msgspec.Meta(gt=0)]


class EdgeSide(Section, frozen=True):
    """The edge's model and settings: a gain fitted to one model is not valid for another."""

    model: str
    """`name@version`."""
    sha256: str
    """SHA-256 of the network."""
    confidence_threshold: Annotated[float, msgspec.Meta(ge=0, le=1)]
    """Detection: boxes of lower confidence are ignored."""
    calibration: Calibration | None = None
    """Detection: `output.calibration` of the model's model.yaml."""
    multi_view: MultiViewConfig | None = None

    @classmethod
    def of(cls, manifest: Manifest, multi_view: MultiViewConfig | None = None) -> "EdgeSide":
        """The settings of an edge with the model of this manifest."""
        output, name = manifest.output, f"{manifest.name}@{manifest.version}"
        return cls(name, manifest.sha256, output.confidence_threshold, output.calibration, multi_view)


class GainFile(Section, frozen=True):
    """What `lab fit` writes: gain = bias + weights . (features - mean) / scale."""

    task: str
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
    """SHA-256 of the pictures it was fitted on, so that it is not evaluated on the same ones by mistake."""
    class_weight: tuple[float, ...] = ()
    """Detection: weight of a box of each class."""
    fidelity: dict[str, float] = msgspec.field(default_factory=dict)
    """Picture variant, or `video` -> share of the cloud's answers that it leaves unchanged."""
    gain_quantiles: tuple[float, ...] = ()
    """Predicted gain on unseen pictures at 0, 1 ... 100 %: threshold `gain_quantiles[80]` sends a fifth."""


@dataclass(frozen=True, slots=True, eq=False)
class FeatureSettings:
    """Inputs of the features besides the prediction; each task uses some of them."""

    classes: int
    temperature: float
    class_weight: Features
    """Detection, (classes,): weight of a box of each class."""
    seen_from: float
    """Detection: boxes of lower confidence are ignored."""


class GainModel:
    """Predicts the gain of one picture; needs the task and classes of the model it was fitted for.

    Raises:
        ConfigError: the file's lists do not fit its features.
    """

    def __init__(self, file: GainFile, name: str = "gain file") -> None:
        self.file = file
        self._name = name
        self._mean, self._scale = np.array(file.mean), np.array(file.scale)
        self._weights = np.array(file.weights)
        self._settings = FeatureSettings(
            file.classes, file.temperature, np.array(file.class_weight), file.edge.confidence_threshold
        )
        if file.task not in FEATURES:
            known = ", ".join(FEATURES)
            raise ConfigError(f"{name}: task: no gain is known for {file.task}, only for {known}")
        size = len(self.features(spec_of(file.task).blank()))
        if not len(file.mean) == len(file.scale) == len(file.weights) == size:
            raise ConfigError(f"{name}: for {file.edge.model}, its lists must have {size} numbers each")

    @classmethod
    def load(cls, path: Path) -> "GainModel":
        """Read a gain file. Raises ConfigError."""
        try:
            values = msgspec.json.decode(path.read_bytes())
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
        except msgspec.DecodeError as error:
            raise ConfigError(f"{path}: not a gain file: {error}") from error
        return cls(convert_config(values, GainFile, str(path)), str(path))

    def check_fits(self, edge: EdgeSide) -> None:
        """Refuse an edge that differs from the one that the file was fitted to.

        Raises:
            ConfigError: names the file and the first key that differs.
        """
        for key in EdgeSide.__struct_fields__:
            fitted, actual = getattr(self.file.edge, key), getattr(edge, key)
            if fitted != actual:
                raise ConfigError(
                    f"{self._name}: fitted to an edge whose {key} is {_told(fitted)}; here it is "
                    f"{_told(actual)}: fit it anew with `spillover lab fit`"
                )

    def gain(self, prediction: Prediction) -> float:
        """Expected gain of sending the picture that got this prediction."""
        z = (self.features(prediction) - self._mean) / self._scale
        return float(z @ self._weights) + self.file.bias

    def features(self, prediction: Prediction) -> Features:
        """The features to which the weights apply."""
        return FEATURES[self.file.task](prediction, self._settings)


def classification_features(prediction: Classification, classes: int, temperature: float) -> Features:
    """Shape of the distribution at `temperature` (Guo et al., ICML 2017); with few classes also the class.

    With more than 100 classes: the best probability, the margin, the entropy, and the sums over 20 equal
    groups of class numbers (ImageNet's order follows WordNet, so a group is birds, or dogs). Otherwise: the
    top five probabilities and their logarithms, margin in both, entropy, sum of squares, the probability of
    each class, and the best class as one-hot.
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
    """Number of boxes, their uncertainty, and the rarity of their classes.

    Mean average precision weighs classes alike, so a box of a rare class is worth more: `class_weight`
    (classes,) says how much. Logarithms of the sums of c, c(1-c) and c^2 and of weighted counts from three
    confidences up; roots of the weighted sums of c and c(1-c). Boxes of classes without a weight are ignored,
    as are those below `seen_from`.
    """
    known = (prediction.class_id < class_weight.size) & (prediction.confidence >= seen_from)
    c, class_id = prediction.confidence[known].astype(np.float64), prediction.class_id[known]
    weight = class_weight[class_id]
    mass = np.stack([c, c * (1.0 - c), c**2])
    counts = [weight[c > seen].sum() for seen in COUNTED]
    return np.concatenate([np.log1p([*mass.sum(axis=1), *counts]), np.sqrt(mass[:2] @ weight)])


def tempered(probability: npt.NDArray[np.floating], temperature: float) -> Features:
    """The softmax that results if the logits are divided by `temperature`."""
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


def _told(value: object) -> str:
    return msgspec.json.encode(value).decode()


FEATURES: Mapping[str, Callable[[Prediction, FeatureSettings], Features]] = MappingProxyType(
    {
        CLASSIFICATION.name: lambda prediction, settings: classification_features(
            CLASSIFICATION.own(prediction), settings.classes, settings.temperature
        ),
        DETECTION.name: lambda prediction, settings: detection_features(
            DETECTION.own(prediction), settings.class_weight, settings.seen_from
        ),
    }
)
"""Feature function of each task; other tasks have no `expected_gain`."""
