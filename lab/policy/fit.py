"""Fit the expected gain of a pair on labels or on the cloud's answers, and judge it cross-fitted."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from common.model.manifest import Task, open_model_folder
from common.types import Classification, Prediction
from edge.config import SecondLookConfig
from edge.policy.gain import GainFile, GainModel, features_of
from edge.policy.scores import SCORERS
from lab.data.labelled import ClassLabels, CocoTruth, LabelledSet
from lab.evaluate.curve import Curve, curve_by_score, mean_curve, oracle_curve, random_curve
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
    plain_says: Sequence[Prediction]
    """The edge's model, looking once."""
    edge_says: Sequence[Prediction]
    """What the edge says; with a second look at pictures in doubt it differs from `plain_says`."""
    cloud_says: Sequence[Prediction]
    data: LabelledSet


def predict_pair(
    edge: Path,
    cloud: Path,
    data: LabelledSet,
    progress: Progress,
    threads: int = 0,
    look: SecondLookConfig | None = None,
) -> Pair:
    """Run both models over the set. Raises ModelError and SourceError as `evaluate_pair` does."""
    edge_model, cloud_model = (check_task(folder, data.task) for folder in (edge, cloud))
    plain = predict_all(edge, data, progress, threads)
    looked = predict_all(edge, data, progress, threads, look) if look else plain
    cloud_says = predict_all(cloud, data, progress, threads)
    return Pair(data.task, edge_model, cloud_model, _classes(edge, plain), plain, looked, cloud_says, data)


def fit_pair(pair: Pair, progress: Progress, *, teacher: bool = False, seed: int = 0) -> Fit:
    """Fit on all pictures for the edge; score each picture by fits that have not seen it.

    With `teacher` the labels are not looked at: the cloud's answers stand in for them.
    """
    random = np.random.default_rng(seed)
    truth = taught_by(pair.task, pair.cloud_says, pair.classes) if teacher else pair.data.truth
    mixture = mixture_of(truth, pair.edge_says, pair.cloud_says, pair.plain_says)
    features, target = _Features(pair, truth), target_of(mixture)
    scores = cross_fitted(len(mixture), features, target, random, progress)
    everything = np.arange(len(mixture))
    estimator, _ = fit_on(features, target, everything)
    file = GainFile(
        task=pair.task,
        edge_model=pair.edge_model,
        cloud_model=pair.cloud_model,
        classes=pair.classes,
        temperature=features.temperature_on(everything),
        mean=tuple(estimator.mean.tolist()),
        scale=tuple(estimator.scale.tolist()),
        weights=tuple(estimator.weights.tolist()),
        bias=estimator.bias,
        pictures=len(mixture),
        data_sha256=data_digest(pair.data),
        gain_quantiles=tuple(np.quantile(np.concatenate(scores), np.linspace(0, 1, 101)).tolist()),
    )
    contenders = {name: Contender(mixture, [score]) for name, score in _baselines(pair, pair.edge_says)}
    if pair.edge_says is not pair.plain_says:
        plain = mixture_of(truth, pair.plain_says, pair.cloud_says)
        looked = {f"{name} + look": contender for name, contender in contenders.items()}
        contenders = {name: Contender(plain, [score]) for name, score in _baselines(pair, pair.plain_says)}
        contenders |= looked
    contenders[FITTED] = Contender(mixture, scores)
    return _judged(file, contenders, mixture, progress, random)


@dataclass(frozen=True, slots=True, eq=False)
class Contender:
    """A way to rank pictures (several score vectors: repeats of a cross-fit) among answers of one mixture."""

    mixture: Mixture
    scores: Sequence[Floats]


class _Features:
    """Features of every picture, whose temperature comes from the pictures that may be seen."""

    def __init__(self, pair: Pair, truth: ClassLabels | CocoTruth) -> None:
        self._pair = pair
        self._truth = truth

    def __call__(self, train: Indices) -> Floats:
        temperature = self.temperature_on(train)
        return np.array([features_of(p, self._pair.classes, temperature) for p in self._pair.edge_says])

    def temperature_on(self, train: Indices) -> float:
        if not isinstance(self._truth, ClassLabels):
            return 1.0
        seen = [self._pair.edge_says[i] for i in train]
        return fit_temperature(seen, self._truth.class_id[train])


def _baselines(pair: Pair, says: Sequence[Prediction]) -> list[tuple[str, Floats]]:
    scorers = [(name, scorer) for name, scorer in SCORERS.items() if scorer.task is pair.task]
    return [(name, score_all(scorer, says)) for name, scorer in scorers]


def write_gain_file(path: Path, file: GainFile) -> None:
    """Write the estimator as JSON that a person can read, and check that the edge can."""
    GainModel(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(file), indent=1) + b"\n")


def _judged(
    file: GainFile,
    contenders: dict[str, Contender],
    mixture: Mixture,
    progress: Progress,
    random: np.random.Generator,
) -> Fit:
    curves, intervals = {}, {}
    for name, contender in progress.track(list(contenders.items()), "intervals"):
        drawn = [curve_by_score(contender.mixture, each, random) for each in contender.scores]
        curves[name] = mean_curve(contender.mixture, drawn)
        intervals[name] = gap_intervals(contender.mixture, contender.scores, random)
    for name, curve in (("random", random_curve(mixture, random)), ("oracle", oracle_curve(mixture))):
        curves[name] = curve
        intervals[name] = [Interval(point.gap_share, point.gap_share) for point in curve]
    edge, cloud = mixture.gap()
    return Fit(file, mixture.metric, edge, cloud, curves, intervals)


def _classes(folder: Path, predictions: Sequence[Prediction]) -> int:
    """How many classes the model knows: its labels, its output, or the highest class it has named."""
    labels = open_model_folder(folder).labels
    if labels:
        return len(labels)
    if isinstance(predictions[0], Classification):
        return int(predictions[0].class_id.size)
    return 1 + max((int(p.class_id.max()) for p in predictions if p.class_id.size), default=0)
