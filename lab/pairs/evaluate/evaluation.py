"""Evaluates a pair: runs both models over a labelled set and draws every policy's curve."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spillover.common.errors import ConfigError
from spillover.common.model.manifest import Manifest, open_model_folder
from spillover.common.types import Prediction
from spillover.edge.policy.gain import EdgeSide, GainModel
from spillover.edge.policy.scores import Scorer, ScoreSettings, scorers_for
from spillover.lab.data.labelled import LabelledSet
from spillover.lab.pairs.evaluate.accuracy_curve import (
    JUDGED,
    Curve,
    Interval,
    curve_by_score,
    gap_intervals,
    oracle_curve,
    random_curve,
    verdict,
)
from spillover.lab.pairs.evaluate.classes import judging
from spillover.lab.pairs.evaluate.detection import BoxMixture
from spillover.lab.pairs.evaluate.mixture import Floats, Mixture, mixture_of
from spillover.lab.pairs.evaluate.predict import data_digest, predict_all
from spillover.lab.terminal import Progress

FITTED = "expected_gain"
"""The policy that `--gain` adds."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The figures of one evaluation; `curves` by policy, `oracle` and `random` included."""

    edge_model: str
    cloud_model: str
    data: str
    pictures: int
    metric: str
    edge_accuracy: float
    cloud_accuracy: float
    further: dict[str, float]
    """More figures by name: for detection AP at IoU 0.50 of either model."""
    curves: dict[str, Curve]
    best: str
    """The policy that closes most of the gap at the share `JUDGED`, oracle and random left out."""
    best_interval: Interval
    """Of its gap share there."""

    def verdict(self) -> str:
        """Which policy to take, in a sentence or two."""
        then = (
            "The fit of --gain is none either: fit on more pictures, like these, or take another pair."
            if FITTED in self.curves
            else "`spillover lab fit` learns which pictures gain; where it cannot either, take more "
            "pictures or another pair."
        )
        ends = self.edge_accuracy, self.cloud_accuracy
        return verdict(self.best, self.curves, self.best_interval, ends, then)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        plain = asdict(self)
        policies = {name: {"curve": curve} for name, curve in plain.pop("curves").items()}
        further = plain.pop("further")
        return {**plain, **further, "policies": policies, "verdict": self.verdict()}


def evaluate_pair(
    edge: Path,
    cloud: Path,
    data: LabelledSet,
    progress: Progress,
    *,
    gain: GainModel | None = None,
    report_threshold: float | None = None,
    threads: int = 0,
    seed: int = 0,
) -> Evaluation:
    """Run both models over `data` and draw every policy's curve; `gain` must not be fitted on `data`.

    Where `gain` was fitted to several views of a picture, the edge predicts from as many here. Average
    precision counts boxes of any confidence; scores judge only the boxes that the daemon's policy sees
    (`scorers_of`).

    Raises:
        ConfigError: `gain` is for another model, or has seen these pictures.
        ModelError: a model does not load, or its task is not what the labels can judge.
        SourceError: a picture cannot be read, or the labels are not of the models' classes.
    """
    data = judging(data, edge, cloud)
    edge_folder, cloud_folder = open_model_folder(edge), open_model_folder(cloud)
    edge_name, cloud_name = str(edge_folder.model_id), str(cloud_folder.model_id)
    scorers = scorers_of(edge_folder.manifest, report_threshold)
    views = gain.file.edge.multi_view if gain is not None else None
    if gain is not None:
        check_gain(gain, EdgeSide.of(edge_folder.manifest, views), data)
        scorers[FITTED] = Scorer(data.task, lambda prediction, _: gain.gain(prediction))
    plain = predict_all(edge, data, progress, threads)
    from_edge = predict_all(edge, data, progress, threads, views) if views else plain
    mixture = mixture_of(data.truth, from_edge, predict_all(cloud, data, progress, threads), plain)
    curves = _curves(mixture, scorers, from_edge, progress, seed)
    best = max(scorers, key=lambda name: curves[name][JUDGED].accuracy)
    scores = score_all(scorers[best], from_edge)
    intervals = gap_intervals(mixture, [scores], np.random.default_rng(seed))
    return Evaluation(
        edge_model=edge_name,
        cloud_model=cloud_name,
        data=data.name,
        pictures=len(data.pictures),
        metric=mixture.metric,
        edge_accuracy=mixture.gap()[0],
        cloud_accuracy=mixture.gap()[1],
        further=_further(mixture),
        curves=curves,
        best=best,
        best_interval=intervals[JUDGED],
    )


def check_gain(gain: GainModel, edge: EdgeSide, data: LabelledSet) -> None:
    """Refuse to judge an estimator on another edge, or on the pictures it was fitted on."""
    gain.check_fits(edge)
    if gain.file.data_sha256 == data_digest(data):
        raise ConfigError("the gain file was fitted on these pictures; `lab fit` shows it cross-fitted")


def scorers_of(manifest: Manifest, report_threshold: float | None = None) -> dict[str, Scorer]:
    """The scores of the edge's model as its daemon computes them.

    The daemon's policy sees boxes from the model's `confidence_threshold` up and counts those from
    `report_threshold` (of edge.yaml; by default the same) up as reported.
    """
    output = manifest.output
    lowest = output.confidence_threshold
    settings = ScoreSettings(output.reported_from if report_threshold is None else report_threshold)

    def as_seen(scorer: Scorer) -> Scorer:
        return Scorer(scorer.task, lambda prediction, _: scorer(prediction.above(lowest), settings))

    return {name: as_seen(scorer) for name, scorer in scorers_for(manifest.task).items()}


def score_all(
    scorer: Scorer, predictions: Sequence[Prediction], settings: ScoreSettings | None = None
) -> Floats:
    """One score a picture, (N,); a picture that the scorer cannot judge is sent last."""
    scores = [scorer(prediction, settings) for prediction in predictions]
    return np.array([-np.inf if score is None else score for score in scores], np.float64)


def _curves(
    mixture: Mixture,
    scorers: Mapping[str, Scorer],
    predictions: Sequence[Prediction],
    progress: Progress,
    seed: int,
) -> dict[str, Curve]:
    curves = {
        name: curve_by_score(mixture, score_all(scorers[name], predictions), np.random.default_rng(seed))
        for name in progress.track(list(scorers), "policies")
    }
    curves["random"] = random_curve(mixture, np.random.default_rng(seed))
    curves["oracle"] = oracle_curve(mixture)
    return curves


def _further(mixture: Mixture) -> dict[str, float]:
    if not isinstance(mixture, BoxMixture):
        return {}
    nothing = np.zeros(len(mixture), np.bool_)
    return {
        "edge_map50": mixture.precision(nothing).ap50,
        "cloud_map50": mixture.precision(~nothing).ap50,
    }
