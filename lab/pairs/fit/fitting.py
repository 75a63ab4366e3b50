"""Fits the expected gain of a pair on labels or on the cloud's answers, and judges it cross-fitted."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from spillover.common.errors import SourceError
from spillover.common.types import Prediction
from spillover.edge.policy.gain import GainFile, GainModel
from spillover.edge.policy.scores import ScoreSettings, scorers_for
from spillover.lab.pairs.evaluate.accuracy_curve import (
    Curve,
    Interval,
    curve_by_score,
    gap_intervals,
    mean_curve,
    oracle_curve,
    random_curve,
)
from spillover.lab.pairs.evaluate.evaluation import score_all
from spillover.lab.pairs.evaluate.mixture import Floats, Mixture, mixture_of
from spillover.lab.pairs.evaluate.predict import data_digest
from spillover.lab.pairs.fit.estimator import Estimation
from spillover.lab.pairs.fit.pair import Pair
from spillover.lab.pairs.fit.ridge import cross_fitted
from spillover.lab.pairs.fit.targets import taught_by
from spillover.lab.terminal import Progress

FITTED = "expected_gain"
LEAST_PICTURES = 10
"""Two for each fold."""


@dataclass(frozen=True, slots=True)
class Fit:
    """The estimator for the edge, and how much of the gap it closes on pictures it was not fitted on."""

    file: GainFile
    metric: str
    edge_accuracy: float
    cloud_accuracy: float
    curves: dict[str, Curve]
    intervals: dict[str, list[Interval]]

    def as_dict(self) -> dict[str, Any]:
        """For JSON; `low` and `high` enclose 95 % of the gap share."""
        return {
            "edge_model": self.file.edge.model,
            "cloud_model": self.file.cloud_model,
            "pictures": self.file.pictures,
            "metric": self.metric,
            "edge_accuracy": self.edge_accuracy,
            "cloud_accuracy": self.cloud_accuracy,
            "policies": {
                name: {
                    "curve": [
                        asdict(point) | asdict(interval)
                        for point, interval in zip(curve, self.intervals[name], strict=True)
                    ]
                }
                for name, curve in self.curves.items()
            },
        }


def fit_pair(pair: Pair, progress: Progress, *, teacher: bool = False, seed: int = 0) -> Fit:
    """Fit on all pictures for the edge; score each picture by fits to other pictures.

    `teacher` takes the cloud's answers in the place of the labels.

    Raises:
        SourceError: there are fewer than 10 pictures, or no labels and no `teacher`.
    """
    if len(pair.edge_predictions) < LEAST_PICTURES:
        raise SourceError(
            f"{pair.data.name}: {len(pair.edge_predictions)} pictures are too few to fit to; "
            f"it takes {LEAST_PICTURES}"
        )
    random = np.random.default_rng(seed)
    truth = taught_by(pair.task, pair.cloud_predictions, pair.classes) if teacher else pair.labelled.truth
    mixture = mixture_of(truth, pair.edge_predictions, pair.cloud_predictions, pair.plain_predictions)
    estimation = Estimation(pair, truth, mixture)
    scores = cross_fitted(len(mixture), estimation.scores, random, progress, pair.data.stretch)
    quantiles = np.quantile(np.concatenate(scores), np.linspace(0, 1, 101))
    file = gain_file(pair, estimation, tuple(quantiles.tolist()))
    ranked = baselines(pair.task, pair.edge_predictions, pair.report_threshold)
    contenders = {name: Contender(mixture, [score]) for name, score in ranked}
    if pair.edge_predictions is not pair.plain_predictions:
        plain = mixture_of(truth, pair.plain_predictions, pair.cloud_predictions)
        means = " + ".join(pair.means)
        improved = {f"{name} + {means}": contender for name, contender in contenders.items()}
        ranked = baselines(pair.task, pair.plain_predictions, pair.plain_threshold)
        contenders = {name: Contender(plain, [score]) for name, score in ranked} | improved
    contenders[FITTED] = Contender(mixture, scores)
    return _judged(file, contenders, mixture, progress, random, pair.data.stretch)


@dataclass(frozen=True, slots=True, eq=False)
class Contender:
    """A way to rank pictures; several score vectors are repeats of a cross-fit."""

    mixture: Mixture
    scores: Sequence[Floats]


def gain_file(pair: Pair, estimation: Estimation, quantiles: tuple[float, ...] = ()) -> GainFile:
    """Fit to all pictures of the pair."""
    fitted = estimation.fit(np.arange(len(pair.edge_predictions)))
    ridge = fitted.ridge
    return GainFile(
        task=pair.task,
        edge=pair.edge,
        cloud_model=pair.cloud_model,
        classes=pair.classes,
        temperature=fitted.settings.temperature,
        mean=tuple(ridge.mean.tolist()),
        scale=tuple(ridge.scale.tolist()),
        weights=tuple(ridge.weights.tolist()),
        bias=ridge.bias,
        class_weight=tuple(fitted.settings.class_weight.tolist()),
        pictures=len(pair.edge_predictions),
        data_sha256=data_digest(pair.data),
        gain_quantiles=quantiles,
    )


def baselines(
    task: str, predictions: Sequence[Prediction], report_threshold: float
) -> list[tuple[str, Floats]]:
    """Scores that need no fitting, as a daemon with this report threshold computes them."""
    settings = ScoreSettings(report_threshold)
    return [(name, score_all(scorer, predictions, settings)) for name, scorer in scorers_for(task).items()]


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
    stretch: int,
) -> Fit:
    curves, intervals = {}, {}
    for name, contender in progress.track(list(contenders.items()), "intervals"):
        drawn = [curve_by_score(contender.mixture, repeat, random) for repeat in contender.scores]
        curves[name] = mean_curve(contender.mixture, drawn)
        intervals[name] = gap_intervals(contender.mixture, contender.scores, random, stretch)
    for name, curve in (("random", random_curve(mixture, random)), ("oracle", oracle_curve(mixture))):
        curves[name] = curve
        intervals[name] = [Interval(point.gap_share, point.gap_share) for point in curve]
    edge, cloud = mixture.gap()
    return Fit(file, mixture.metric, edge, cloud, curves, intervals)
