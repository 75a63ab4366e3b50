"""Puts a detector's confidences on another scale: the cloud's, or the share of boxes that are right."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from spillover.common.errors import ModelError
from spillover.common.files import write_atomic
from spillover.common.model.calibration import Calibration, log_odds
from spillover.common.model.manifest import MANIFEST_FILE, open_model_folder, write_manifest
from spillover.common.tasks.detection import DETECTION
from spillover.common.types import Detections, Prediction
from spillover.lab.pairs.evaluate.mixture import Floats
from spillover.lab.pairs.fit.matching import Objects, match, overlaps
from spillover.lab.pairs.fit.ridge import folds

SAME_BOX_IOU = 0.5
CALIBRATED_THRESHOLD = 0.02
"""The `confidence_threshold` of a calibrated model: the policy judges by doubtful boxes as well."""
_PRIOR = 1e-3


def fit_calibration(edge: Sequence[Prediction], cloud: Sequence[Prediction]) -> Calibration:
    """A map from the edge's confidence to the cloud's mean confidence in the same boxes.

    A box that the cloud does not have counts 0. Logistic regression on log-odds with soft targets
    (Platt, 1999).

    Raises:
        ModelError: the cloud's confidences do not rise with the edge's (too few boxes, or none in common).
    """
    pairs = list(zip(boxes_of(edge), boxes_of(cloud), strict=True))
    confidence = log_odds(np.concatenate([a.confidence for a, _ in pairs]))
    target = np.concatenate([confidence_of_same(a, b) for a, b in pairs])
    offset, scale = _logistic(confidence, target)
    if not scale > 0:
        raise ModelError(
            "the edge's confidences cannot be put on the cloud's scale: they do not rise with it"
        )
    return Calibration(offset=offset, scale=scale)


def fit_to_labels(predictions: Sequence[Prediction], objects: Sequence[Objects]) -> Calibration:
    """A map from a detector's confidence to the share of such boxes that are right, at IoU 0.5.

    Raises:
        ModelError: that share does not rise with the confidence (too few boxes, or labels of other classes).
    """
    boxes = boxes_of(predictions)
    confidence = log_odds(np.concatenate([one.confidence for one in boxes]))
    right = [
        match(overlaps(one, known), SAME_BOX_IOU) >= 0 for one, known in zip(boxes, objects, strict=True)
    ]
    offset, scale = _logistic(confidence, np.concatenate(right).astype(np.float64))
    if not scale > 0:
        raise ModelError("the share of boxes that are right does not rise with the network's confidence")
    return Calibration(offset=offset, scale=scale)


def out_of_fold(
    edge: Sequence[Prediction], cloud: Sequence[Prediction], random: np.random.Generator, stretch: int = 1
) -> list[Prediction]:
    """The edge's boxes, each picture's calibrated by a fit to pictures of other folds."""
    calibrated: dict[int, Prediction] = {}
    for train, test in folds(len(edge), random, stretch):
        fitted = fit_calibration([edge[i] for i in train], [cloud[i] for i in train])
        calibrated |= dict(zip(test.tolist(), recalibrated([edge[i] for i in test], fitted), strict=True))
    return [calibrated[i] for i in range(len(edge))]


def write_calibration(folder: Path, calibration: Calibration, report_threshold: float) -> None:
    """Write it into the model.yaml of `folder`, with thresholds to match. Raises ModelError.

    Boxes are reported from `report_threshold` on the new scale; the policy sees more of them.
    """
    manifest = open_model_folder(folder).manifest
    output = msgspec.structs.replace(
        manifest.output,
        calibration=calibration,
        confidence_threshold=min(CALIBRATED_THRESHOLD, report_threshold),
        report_threshold=round(report_threshold, 4),
    )
    write_manifest(folder, msgspec.structs.replace(manifest, output=output))


def calibrate_anew(folder: Path, calibration: Calibration, report_threshold: float) -> list[str]:
    """As `write_calibration`; keeps the file as it was the first time, and says what has changed."""
    path = folder / MANIFEST_FILE
    kept = path.with_name(f"{path.name}.before")
    if not kept.exists():
        write_atomic(kept, path.read_bytes())
    before = open_model_folder(folder).manifest.output
    write_calibration(folder, calibration, report_threshold)
    after = open_model_folder(folder).manifest.output
    names = ("calibration", "confidence_threshold", "report_threshold")
    changes = [
        f"  output.{name}: {_in_words(getattr(before, name))} -> {_in_words(getattr(after, name))}"
        for name in names
    ]
    return [
        f"{path}, which is kept as it was in {kept.name}:",
        *changes,
        "  Boxes are reported from report_threshold on, on the cloud's scale; leave model.report_threshold "
        "out of edge.yaml. Scores that count boxes count more of them: say how much is sent by "
        "policy.send_share, not by policy.threshold.",
    ]


def _in_words(value: Calibration | float | None) -> str:
    if isinstance(value, Calibration):
        return f"offset {value.offset:.3f}, scale {value.scale:.3f}"
    return "none" if value is None else f"{value:g}"


def recalibrated(predictions: Sequence[Prediction], calibration: Calibration) -> list[Detections]:
    """The same boxes with confidences on the other scale."""
    return [replace(p, confidence=calibration.apply(p.confidence)) for p in boxes_of(predictions)]


def boxes_of(predictions: Sequence[Prediction]) -> list[Detections]:
    """The predictions as boxes. Raises TypeError for those of another task."""
    return [DETECTION.own(prediction) for prediction in predictions]


def confidence_of_same(edge: Detections, cloud: Detections) -> Floats:
    """For each of the edge's boxes the cloud's confidence in the same box, 0 where it has none."""
    same = match(overlaps(edge, cloud), SAME_BOX_IOU)
    confidence: Floats = np.append(cloud.confidence, 0.0)[same].astype(np.float64)
    return confidence


def _logistic(x: Floats, y: Floats) -> tuple[float, float]:
    """Intercept and slope of least cross-entropy; a slight pull to 0 keeps separable data finite."""

    def loss_and_gradient(weights: Floats) -> tuple[float, Floats]:
        z = weights[0] + weights[1] * x
        surplus = expit(z) - y
        loss = np.sum(np.logaddexp(0, z) - y * z) + _PRIOR / 2 * weights @ weights
        return loss, np.array([surplus.sum(), surplus @ x]) + _PRIOR * weights

    offset, scale = minimize(loss_and_gradient, np.zeros(2), jac=True, tol=1e-8).x
    return float(offset), float(scale)
