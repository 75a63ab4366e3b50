"""Two models' predictions over one labelled set: what every fit begins with."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import numpy as np

from spillover.common.errors import ConfigError
from spillover.common.model.manifest import open_model_folder
from spillover.common.tasks import spec_for, spec_of
from spillover.common.types import Prediction
from spillover.edge.config import MultiViewConfig
from spillover.edge.policy.gain import EdgeSide
from spillover.lab.data.labelled import LabelledSet
from spillover.lab.pairs.evaluate.classes import judging
from spillover.lab.pairs.evaluate.predict import predict_all
from spillover.lab.pairs.fit.calibrate import CALIBRATED_THRESHOLD, fit_calibration, out_of_fold
from spillover.lab.progress import Progress


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """Two models' predictions over one set, with the names that go into the gain file."""

    task: str
    edge: EdgeSide
    cloud_model: str
    classes: int
    plain_says: Sequence[Prediction]
    """The edge's model, looking once."""
    edge_says: Sequence[Prediction]
    """What `edge` says; looking again or calibrated it differs from `plain_says`.

    A calibration that was fitted here is left out of fold: that of `edge` is fitted on all pictures."""
    own_says: Sequence[Prediction]
    """The same before a calibration that was fitted here."""
    cloud_says: Sequence[Prediction]
    data: LabelledSet
    report_threshold: float = 0.5
    """Boxes that the edge reports, for the scores that judge by it."""
    plain_threshold: float = 0.5
    """The same of `plain_says`."""
    means: tuple[str, ...] = field(default=("look",))
    """How `edge_says` differs from `plain_says`."""


def predict_pair(
    edge: Path,
    cloud: Path,
    data: LabelledSet,
    progress: Progress,
    threads: int = 0,
    look: MultiViewConfig | None = None,
    *,
    calibrate: bool = False,
    report_threshold: float | None = None,
) -> Pair:
    """Run both models over the set.

    With `calibrate` the edge's own calibration is passed over, and a new one is fitted. `report_threshold` is
    `model.report_threshold` of edge.yaml; by default the model's own threshold, on the scale of the edge.

    Raises:
        ConfigError: `calibrate` for a classifier.
        ModelError, SourceError: as `evaluate_pair`.
    """
    data = judging(data, edge, cloud)
    manifest, cloud_model = open_model_folder(edge).manifest, open_model_folder(cloud).model_id
    side, output = EdgeSide.of(manifest, look), manifest.output
    own = output.network_threshold if calibrate else output.confidence_threshold
    plain = predict_all(edge, data, progress, threads, calibrated=not calibrate)
    looked = predict_all(edge, data, progress, threads, look, calibrated=not calibrate) if look else plain
    cloud_says = predict_all(cloud, data, progress, threads)
    classes = _classes(edge, plain)
    reported = own if report_threshold is None else report_threshold
    pair = Pair(
        data.task, side, str(cloud_model), classes, plain, looked, looked, cloud_says, data, reported, own
    )
    if not calibrate:
        return pair
    pair = calibrated(pair)
    if report_threshold is not None:
        pair = replace(pair, report_threshold=report_threshold)
    return replace(pair, means=("look", "calibrated") if look else ("calibrated",))


def calibrated(pair: Pair) -> Pair:
    """The pair with the edge put on the cloud's scale; each picture by a fit that has not seen it.

    Raises:
        ConfigError: models of this task are not calibrated.
        ModelError: the edge's confidences say nothing of the cloud's.
    """
    if not spec_of(pair.task).calibrates:
        raise ConfigError(f"models for {pair.task} are not calibrated on one another, only detectors are")
    calibration = fit_calibration(pair.own_says, pair.cloud_says)
    told = calibration.apply(np.array([pair.plain_threshold], np.float32))
    return replace(
        pair,
        edge_says=out_of_fold(pair.own_says, pair.cloud_says, np.random.default_rng(0)),
        edge=msgspec.structs.replace(
            pair.edge, calibration=calibration, confidence_threshold=CALIBRATED_THRESHOLD
        ),
        report_threshold=float(told[0]),
    )


def part_of(pair: Pair, numbers: Sequence[int]) -> Pair:
    """The numbered pictures of a pair, in that order."""

    def some(says: Sequence[Prediction]) -> list[Prediction]:
        return [says[n] for n in numbers]

    return replace(
        pair,
        plain_says=some(pair.plain_says),
        edge_says=some(pair.edge_says),
        own_says=some(pair.own_says),
        cloud_says=some(pair.cloud_says),
        data=pair.data.part(numbers),
    )


def _classes(folder: Path, predictions: Sequence[Prediction]) -> int:
    """How many classes the model knows: its labels, its output, or the highest class it has named."""
    labels = open_model_folder(folder).labels
    if labels:
        return len(labels)
    named = [spec_for(p).columns_of(p)["class_id"] for p in predictions]
    return 1 + max((int(class_id.max()) for class_id in named if class_id.size), default=0)
