"""A model judged on labelled pictures, from whatever reached it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np

from spillover.common.model.manifest import open_model_folder
from spillover.common.model.session import Model
from spillover.common.model.session_config import SessionConfig
from spillover.common.types import Prediction
from spillover.lab.data.labelled import ClassLabels, CocoTruth, LabelledSet
from spillover.lab.pairs.evaluate.detection import CocoSet
from spillover.lab.pairs.evaluate.predict import ALL_BOXES


def open_model(path: Path, threads: int) -> Model:
    """The model in `path`, a detector giving boxes of any confidence, as average precision needs them."""
    folder = open_model_folder(path)
    output = folder.manifest.output
    low = msgspec.structs.replace(output, confidence_threshold=min(output.confidence_threshold, ALL_BOXES))
    manifest = msgspec.structs.replace(folder.manifest, output=low)
    return Model(replace(folder, manifest=manifest), SessionConfig(threads=threads))


def halves(data: LabelledSet, calibration: int, evaluation: int) -> tuple[LabelledSet, LabelledSet]:
    """Two sets without a common picture, each spread evenly over `data`."""
    count = len(data.pictures)
    first = np.unique(np.linspace(0, count - 1, min(calibration, count // 2)).round().astype(int))
    others = np.setdiff1d(np.arange(count), first)
    chosen = others[np.unique(np.linspace(0, len(others) - 1, evaluation).round().astype(int))]
    return subset(data, first), subset(data, chosen)


def subset(data: LabelledSet, chosen: Sequence[int] | np.ndarray) -> LabelledSet:
    """The numbered pictures of a set, with their truth."""
    numbers = [int(number) for number in chosen]
    match data.truth:
        case ClassLabels(class_id):
            truth: ClassLabels | CocoTruth = ClassLabels(class_id[numbers])
        case CocoTruth(instances, image_ids):
            truth = CocoTruth(instances, tuple(image_ids[number] for number in numbers))
    return replace(data, pictures=tuple(data.pictures[number] for number in numbers), truth=truth)


def accuracy(data: LabelledSet, predictions: Sequence[Prediction]) -> float:
    """Top-1 accuracy, or mean average precision over IoU 0.50:0.95."""
    match data.truth:
        case ClassLabels(class_id):
            found = [prediction.top_class for prediction in predictions]
            return float(np.mean(np.array(found) == class_id))
        case CocoTruth() as truth:
            return CocoSet(truth).mean_average_precision(predictions).ap
