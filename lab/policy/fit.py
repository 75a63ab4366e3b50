"""Fit the expected gain of a pair on labels or on the cloud's answers, and judge it cross-fitted."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from common.model.manifest import Task, open_model_folder
from common.types import Classification, Prediction
from edge.policy.gain import GainFile, GainModel, features_of
from edge.policy.scores import SCORERS
from lab.data.labelled import ClassLabels, LabelledSet
from lab.evaluate.curve import SHARES, Curve, curve_by_score, mean_curve, oracle_curve, random_curve
from lab.evaluate.intervals import Interval, gap_intervals
from lab.evaluate.mixture import Floats, Mixture, mixture_of
from lab.evaluate.predict import data_digest, predict_all
from lab.evaluate.progress import Progress
from lab.evaluate.run import check_task, score_all
from lab.policy.crossfit import cross_fitted, fit_on
from lab.policy.targets import Indices, fit_temperature, target_of, taught_by

FITTED = "expected_gain"


@dataclass(frozen=True, slots=True)
class Fit:
    """The estimator for the edge, and what it is worth on pictures it has not seen."""

    file: GainFile
    metric: str
    edge_accuracy: float
    cloud_accuracy: float
    curves: dict[str, Curve]
    intervals: dict[str, list[Interval]]

    def as_dict(self) -> dict[str, Any]:
        """For JSON; `low` and `high` enclose 95 % of the gap share."""
        return {
            "edge_model": self.file.edge_model,
            "cloud_model": self.file.cloud_model,
            "pictures": self.file.pictures,
            "metric": self.metric,
            "edge_accuracy": self.edge_accuracy,
            "cloud_accuracy": self.cloud_accuracy,
            "policies": {
                name: {
                    "curve": [
                        point.as_dict() | {"low": interval.low, "high": interval.high}
                        for point, interval in zip(curve, self.intervals[name], strict=True)
                    ]
                }
                for name, curve in self.curves.items()
            },
        }


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """Two models' predictions over one set, with the names that go into the gain file."""

    task: Task
    edge_model: str
    cloud_model: str
    classes: int
    edge_says: Sequence[Prediction]
    cloud_says: Sequence[Prediction]
    data: LabelledSet


def predict_pair(edge: Path, cloud: Path, data: LabelledSet, progress: Progress, threads: int) -> Pair:
    """Run both models over the set. Raises ModelError and SourceError as `evaluate_pair` does."""
    edge_model, cloud_model = (check_task(folder, data.task) for folder in (edge, cloud))
    edge_says = predict_all(edge, data, progress, threads)
    cloud_says = predict_all(cloud, data, progress, threads)
    classes = _classes(edge, edge_says)
    return Pair(data.task, edge_model, cloud_model, classes, edge_says, cloud_says, data)


def fit_pair(pair: Pair, progress: Progress, *, teacher: bool = False, seed: int = 0) -> Fit:
    """Fit on all pictures for the edge; score each picture by fits that have not seen it.

    With `teacher` the labels are not looked at: the cloud's answers stand in for them.
    """
    random = np.random.default_rng(seed)
    truth = taught_by(pair.task, pair.cloud_says, pair.classes) if teacher else pair.data.truth
    mixture = mixture_of(
        LabelledSet(pair.data.name, pair.data.pictures, truth), pair.edge_says, pair.cloud_says
    )
    labels = truth.class_id if isinstance(truth, ClassLabels) else None

    def temperature_on(train: Indices) -> float:
        if labels is None:
            return 1.0
        return fit_temperature([pair.edge_says[i] for i in train], labels[train])

    def features(train: Indices) -> Floats:
        temperature = temperature_on(train)
        return np.array([features_of(p, pair.classes, temperature) for p in pair.edge_says])

    target, everything = target_of(mixture), np.arange(len(mixture))
    scores = cross_fitted(len(mixture), features, target, random, progress)
    estimator, _ = fit_on(features, target, everything)
    file = GainFile(
        task=pair.task,
        edge_model=pair.edge_model,
        cloud_model=pair.cloud_model,
        classes=pair.classes,
        temperature=temperature_on(everything),
        mean=tuple(estimator.mean.tolist()),
        scale=tuple(estimator.scale.tolist()),
        weights=tuple(estimator.weights.tolist()),
        bias=estimator.bias,
        pictures=len(mixture),
        data_sha256=data_digest(pair.data),
        gain_quantiles=tuple(np.quantile(np.concatenate(scores), np.linspace(0, 1, 101)).tolist()),
    )
    return _judged(file, mixture, pair, scores, progress, random)


def write_gain_file(path: Path, file: GainFile) -> None:
    """Write the estimator as JSON that a person can read, and check that the edge can."""
    GainModel(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(file), indent=1) + b"\n")


def _judged(
    file: GainFile,
    mixture: Mixture,
    pair: Pair,
    fitted: list[Floats],
    progress: Progress,
    random: np.random.Generator,
) -> Fit:
    scored = {name: [score_all(s, pair.edge_says)] for name, s in SCORERS.items() if s.task is pair.task}
    scored[FITTED] = fitted
    curves = {
        name: mean_curve([curve_by_score(mixture, each, random) for each in scores])
        for name, scores in scored.items()
    }
    intervals = {
        name: gap_intervals(mixture, scored[name], random)
        for name in progress.track(list(scored), "intervals")
    }
    curves["random"], curves["oracle"] = random_curve(mixture, random), oracle_curve(mixture)
    exact = [Interval(p.gap_share, p.gap_share) for p in curves["random"]]
    intervals |= {"random": exact, "oracle": [Interval(p.gap_share, p.gap_share) for p in curves["oracle"]]}
    ends = curves["random"]
    assert len(ends) == len(SHARES)  # noqa: S101 - curves are drawn at the same shares
    return Fit(file, mixture.metric, ends[0].accuracy, ends[-1].accuracy, curves, intervals)


def _classes(folder: Path, predictions: Sequence[Prediction]) -> int:
    """How many classes the model knows: its labels, its output, or the highest class it has named."""
    labels = open_model_folder(folder).labels
    if labels:
        return len(labels)
    if isinstance(predictions[0], Classification):
        return int(predictions[0].class_id.size)
    return 1 + max((int(p.class_id.max()) for p in predictions if p.class_id.size), default=0)
