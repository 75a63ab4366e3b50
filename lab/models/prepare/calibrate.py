"""Puts an imported detector's confidences on a scale that detectors share: how many such boxes are right."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spillover.common.errors import ConfigError, SourceError
from spillover.common.model.manifest import open_model_folder
from spillover.common.types import Prediction
from spillover.lab.data.labelled import CocoTruth, LabelledSet
from spillover.lab.pairs.evaluate.classes import judging
from spillover.lab.pairs.evaluate.predict import predict_all
from spillover.lab.pairs.fit.calibrate import boxes_of, fit_to_labels, recalibrated, write_calibration
from spillover.lab.pairs.fit.matching import Objects, match, overlaps, true_objects
from spillover.lab.terminal import Progress

LEAST_PICTURES = 20
"""Ten for each half."""
THRESHOLDS = np.arange(0.05, 0.96, 0.01)
_IOU = 0.5


@dataclass(frozen=True, slots=True)
class Calibrated:
    """The threshold that was chosen on one half, and what the boxes of the other half are worth."""

    report_threshold: float
    f1: float
    f1_before: float
    pictures: int

    def __str__(self) -> str:
        return (
            f"Calibrated on every other picture; boxes are reported from {self.report_threshold:.2f}. On the "
            f"other {self.pictures} pictures: F1 {self.f1:.3f}, and {self.f1_before:.3f} with the preset's"
        )


def calibrate_on(folder: Path, data: LabelledSet, progress: Progress) -> Calibrated:
    """Fit confidences and the threshold of the detector in `folder`; both go into its model.yaml.

    The threshold is that of the best F1 (IoU 0.5) on the pictures with even numbers; the others judge it.

    Raises:
        ConfigError: it is no detector.
        SourceError: too few pictures, or the labels are not of the model's classes.
        ModelError: there are no boxes whose confidence means anything.
    """
    opened = open_model_folder(folder)
    if not opened.task.calibrates:
        raise ConfigError(f"--data: a model for {opened.task.name} is not calibrated, only detectors are")
    data = judging(data, folder)
    if len(data.pictures) < LEAST_PICTURES or not isinstance(data.truth, CocoTruth):
        raise SourceError(f"{data.name}: it takes {LEAST_PICTURES} pictures with boxes to calibrate on")
    raw = predict_all(folder, data, progress, calibrated=False)
    objects = true_objects(data.truth)
    fitted = fit_to_labels(raw[::2], objects[::2])
    known = recalibrated(raw[::2], fitted)
    threshold = float(max(THRESHOLDS, key=lambda least: f1(known, objects[::2], least)))
    output = opened.manifest.output
    write_calibration(folder, fitted, threshold)
    return Calibrated(
        threshold,
        f1(recalibrated(raw[1::2], fitted), objects[1::2], threshold),
        f1(raw[1::2], objects[1::2], output.reported_from),
        len(raw[1::2]),
    )


def f1(predictions: Sequence[Prediction], objects: Sequence[Objects], least: float) -> float:
    """Of all boxes of at least this confidence against all objects, matched by class at IoU 0.5."""
    found = [one.above(least) for one in boxes_of(predictions)]
    right = sum(
        int((match(overlaps(one, known), _IOU) >= 0).sum()) for one, known in zip(found, objects, strict=True)
    )
    total = sum(map(len, found)) + sum(len(known.class_id) for known in objects)
    return 2 * right / total if total else 1.0
