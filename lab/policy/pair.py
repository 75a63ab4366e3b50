"""Two models' predictions over one labelled set: what every fit begins with."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from common.errors import ConfigError
from common.model.calibration import Calibration
from common.model.manifest import Task, open_model_folder
from common.types import Classification, Prediction
from edge.config import SecondLookConfig
from lab.data.labelled import LabelledSet
from lab.evaluate.classes import judging
from lab.evaluate.predict import predict_all
from lab.policy.calibrate import CALIBRATED_THRESHOLD, fit_calibration, out_of_fold
from lab.progress import Progress


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """Two models' predictions over one set, with the names that go into the gain file."""

    task: Task
    edge_model: str
    cloud_model: str
    classes: int
    plain_says: Sequence[Prediction]
    """The edge's model, looking once."""
    edge_says: Sequence[Prediction]
    """What the edge says; looking again or calibrated it differs from `plain_says`."""
    cloud_says: Sequence[Prediction]
    data: LabelledSet
    calibration: Calibration | None = None
    """Of the edge, fitted on all pictures; `edge_says` is calibrated out of fold."""
    seen_from: float = 0.0
    """The daemon's policy sees boxes from this confidence up."""
    means: tuple[str, ...] = field(default=("look",))
    """How `edge_says` differs from `plain_says`."""


def predict_pair(
    edge: Path,
    cloud: Path,
    data: LabelledSet,
    progress: Progress,
    threads: int = 0,
    look: SecondLookConfig | None = None,
    *,
    calibrate: bool = False,
) -> Pair:
    """Run both models over the set.

    With `calibrate` the edge's own calibration is passed over, and a new one is fitted.

    Raises:
        ConfigError: `calibrate` for a classifier.
        ModelError, SourceError: as `evaluate_pair`.
    """
    data = judging(data, edge, cloud)
    edge_model, cloud_model = (str(open_model_folder(folder).model_id) for folder in (edge, cloud))
    plain = predict_all(edge, data, progress, threads, calibrated=not calibrate)
    looked = predict_all(edge, data, progress, threads, look, calibrated=not calibrate) if look else plain
    cloud_says = predict_all(cloud, data, progress, threads)
    classes = _classes(edge, plain)
    pair = Pair(data.task, edge_model, cloud_model, classes, plain, looked, cloud_says, data)
    if not calibrate:
        output = open_model_folder(edge).manifest.output
        return replace(pair, calibration=output.calibration, seen_from=output.confidence_threshold)
    return replace(_calibrated(pair), means=("look", "calibrated") if look else ("calibrated",))


def _calibrated(pair: Pair) -> Pair:
    if pair.task is not Task.DETECTION:
        raise ConfigError("only detectors are calibrated on one another; classifiers have a temperature")
    says, random = pair.edge_says, np.random.default_rng(0)
    return replace(
        pair,
        edge_says=out_of_fold(says, pair.cloud_says, random),
        calibration=fit_calibration(says, pair.cloud_says),
        seen_from=CALIBRATED_THRESHOLD,
    )


def _classes(folder: Path, predictions: Sequence[Prediction]) -> int:
    """How many classes the model knows: its labels, its output, or the highest class it has named."""
    labels = open_model_folder(folder).labels
    if labels:
        return len(labels)
    if isinstance(predictions[0], Classification):
        return int(predictions[0].class_id.size)
    return 1 + max((int(p.class_id.max()) for p in predictions if p.class_id.size), default=0)
