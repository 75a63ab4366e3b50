"""Two models' predictions over one labelled set, from which every fit begins."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np

from spillover.common.errors import ConfigError, SourceError
from spillover.common.model.manifest import open_model_folder
from spillover.common.tasks import spec_for, spec_of
from spillover.common.types import Prediction
from spillover.edge.config import MultiViewConfig
from spillover.edge.policy.gain import EdgeSide
from spillover.lab.data.labelled import COCO_FILE, LABELS_FILE, LabelledSet, PictureSet
from spillover.lab.pairs.evaluate.classes import check_pair, judging
from spillover.lab.pairs.evaluate.predict import predict_all
from spillover.lab.pairs.fit.calibrate import CALIBRATED_THRESHOLD, fit_calibration, out_of_fold
from spillover.lab.terminal import Progress


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """Two models' predictions over one set, with the names that go into the gain file."""

    task: str
    edge: EdgeSide
    cloud_model: str
    classes: int
    plain_predictions: Sequence[Prediction]
    """Of the edge's model from one view of each picture."""
    edge_predictions: Sequence[Prediction]
    """Of the edge as configured, several views and calibration included.

    A calibration fitted here is applied out of fold; the one in `edge` is fitted on all pictures."""
    uncalibrated: Sequence[Prediction]
    """`edge_predictions` before a calibration that was fitted here."""
    cloud_predictions: Sequence[Prediction]
    data: PictureSet
    report_threshold: float = 0.5
    """Confidence from which the edge reports boxes, for the scores that judge by it."""
    plain_threshold: float = 0.5
    """The same for `plain_predictions`."""
    means: tuple[str, ...] = ("look",)
    """How `edge_predictions` differ from `plain_predictions`."""

    @property
    def labelled(self) -> LabelledSet:
        """The set with its labels. Raises SourceError where it has none."""
        if isinstance(self.data, LabelledSet):
            return self.data
        raise SourceError(
            f"{self.data.name}: has no {LABELS_FILE} and no {COCO_FILE}; --teacher learns from the cloud's "
            "answers instead"
        )


def predict_pair(
    edge: Path,
    cloud: Path,
    data: PictureSet,
    progress: Progress,
    threads: int = 0,
    views: MultiViewConfig | None = None,
    *,
    calibrate: bool = False,
    report_threshold: float | None = None,
) -> Pair:
    """Run both models over the set.

    `calibrate` ignores the calibration that the edge's model has, and fits a new one. `report_threshold` is
    `model.report_threshold` of edge.yaml; by default the model's own, on the scale of the edge, or, if that
    is put on the cloud's, the cloud's own.

    Raises:
        ConfigError: `calibrate` for a classifier.
        ModelError, SourceError: as `evaluate_pair`.
    """
    if isinstance(data, LabelledSet):
        data = judging(data, edge, cloud)
    else:
        check_pair(open_model_folder(edge), open_model_folder(cloud))
    manifest, cloud_model = open_model_folder(edge).manifest, open_model_folder(cloud).model_id
    side, output = EdgeSide.of(manifest, views), manifest.output
    threshold = output.on_network_scale(output.reported_from) if calibrate else output.reported_from
    plain = predict_all(edge, data, progress, threads, calibrated=not calibrate)
    from_views = (
        predict_all(edge, data, progress, threads, views, calibrated=not calibrate) if views else plain
    )
    pair = Pair(
        task=open_model_folder(edge).task.name,
        edge=side,
        cloud_model=str(cloud_model),
        classes=_classes(edge, plain),
        plain_predictions=plain,
        edge_predictions=from_views,
        uncalibrated=from_views,
        cloud_predictions=predict_all(cloud, data, progress, threads),
        data=data,
        report_threshold=threshold if report_threshold is None else report_threshold,
        plain_threshold=threshold,
    )
    if not calibrate:
        return pair
    pair = calibrated(pair)
    clouds = open_model_folder(cloud).manifest.output.reported_from
    pair = replace(pair, report_threshold=clouds if report_threshold is None else report_threshold)
    return replace(pair, means=("look", "calibrated") if views else ("calibrated",))


def calibrated(pair: Pair) -> Pair:
    """The pair with the edge put on the cloud's scale, each picture by a fit to other pictures.

    Raises:
        ConfigError: models of this task are not calibrated.
        ModelError: the cloud's confidences do not rise with the edge's.
    """
    if not spec_of(pair.task).calibrates:
        raise ConfigError(f"models for {pair.task} are not calibrated on one another, only detectors are")
    calibration = fit_calibration(pair.uncalibrated, pair.cloud_predictions)
    reported = calibration.apply(np.array([pair.plain_threshold], np.float32))
    return replace(
        pair,
        edge_predictions=out_of_fold(
            pair.uncalibrated, pair.cloud_predictions, np.random.default_rng(0), pair.data.stretch
        ),
        edge=msgspec.structs.replace(
            pair.edge, calibration=calibration, confidence_threshold=CALIBRATED_THRESHOLD
        ),
        report_threshold=float(reported[0]),
    )


def _classes(folder: Path, predictions: Sequence[Prediction]) -> int:
    """The number of the model's classes: by its labels, its output, or its highest predicted class."""
    labels = open_model_folder(folder).labels
    if labels:
        return len(labels)
    named = [spec_for(p).columns_of(p)["class_id"] for p in predictions]
    return 1 + max((int(class_id.max()) for class_id in named if class_id.size), default=0)
