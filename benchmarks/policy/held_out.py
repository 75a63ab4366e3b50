"""Held-out halves: everything is fitted on one half of the pictures and judged on the other, both ways.

Unlike the cross-fit this judges the gain file itself, as the edge reads it, and the calibration too comes
from the other half.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from spillover.common.types import Prediction
from spillover.edge.policy.gain import GainModel
from spillover.lab.pairs.evaluate.accuracy_curve import SHARES, curve_by_score
from spillover.lab.pairs.evaluate.mixture import Floats, Indices, mixture_of
from spillover.lab.pairs.fit.calibrate import recalibrated
from spillover.lab.pairs.fit.estimator import Estimation
from spillover.lab.pairs.fit.fitting import FITTED, baselines, gain_file
from spillover.lab.pairs.fit.pair import Pair, calibrated
from spillover.lab.terminal import Progress

SPLITS = 5


def held_out(pair: Pair, progress: Progress, seed: int = 0) -> dict[str, Floats]:
    """By policy the share of the gap closed on unseen halves, (2 * 5 splits, shares as `SHARES` has them)."""
    random = np.random.default_rng(seed)
    halves = [np.array_split(random.permutation(len(pair.edge_predictions)), 2) for _ in range(SPLITS)]
    directions = [direction for first, second in halves for direction in ((first, second), (second, first))]
    shares_by_policy: dict[str, list[list[float]]] = {}
    for seen, unseen in progress.track(directions, "held-out halves"):
        for name, shares in _judged_half(pair, seen, unseen, random).items():
            shares_by_policy.setdefault(name, []).append(shares)
    return {name: np.array(rows) for name, rows in shares_by_policy.items()}


def _judged_half(
    pair: Pair, seen: Indices, unseen: Indices, random: np.random.Generator
) -> dict[str, list[float]]:
    known, new = _part_of(pair, seen.tolist()), _part_of(pair, unseen.tolist())
    if pair.edge_predictions is not pair.uncalibrated:
        known = calibrated(known)
        assert known.edge.calibration is not None  # noqa: S101 - `calibrated` has put it there
        new = replace(new, edge_predictions=recalibrated(new.uncalibrated, known.edge.calibration))
    truth = known.labelled.truth
    mixture = mixture_of(truth, known.edge_predictions, known.cloud_predictions)
    model = GainModel(gain_file(known, Estimation(known, truth, mixture)))
    scores = dict(baselines(new.task, new.edge_predictions, known.report_threshold))
    scores[FITTED] = np.array([model.gain(prediction) for prediction in new.edge_predictions])
    judge = mixture_of(new.labelled.truth, new.edge_predictions, new.cloud_predictions, new.plain_predictions)
    curves = {name: curve_by_score(judge, score, random) for name, score in scores.items()}
    return {name: [p.gap_share or 0.0 for p in curve] for name, curve in curves.items()}


def _part_of(pair: Pair, numbers: Sequence[int]) -> Pair:
    """The numbered pictures of a pair, in that order."""

    def some(predictions: Sequence[Prediction]) -> list[Prediction]:
        return [predictions[n] for n in numbers]

    return replace(
        pair,
        plain_predictions=some(pair.plain_predictions),
        edge_predictions=some(pair.edge_predictions),
        uncalibrated=some(pair.uncalibrated),
        cloud_predictions=some(pair.cloud_predictions),
        data=pair.labelled.part(numbers),
    )


def at(share: float) -> int:
    """The column of a share sent."""
    return SHARES.index(share)
