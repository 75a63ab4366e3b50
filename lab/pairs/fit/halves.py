"""Held-out halves: everything is fitted on one half of the pictures and judged on the other, both ways.

Unlike the cross-fit, what is judged here is the gain file itself, as the edge reads it, and the calibration
is that of the other half too.
"""

from dataclasses import replace

import numpy as np

from spillover.edge.policy.gain import GainModel
from spillover.lab.pairs.evaluate.curve import SHARES, curve_by_score
from spillover.lab.pairs.evaluate.mixture import Floats, mixture_of
from spillover.lab.pairs.fit.calibrate import recalibrated
from spillover.lab.pairs.fit.crossfit import Indices
from spillover.lab.pairs.fit.estimator import Estimation
from spillover.lab.pairs.fit.fitting import FITTED, baselines, gain_file
from spillover.lab.pairs.fit.pair import Pair, calibrated, part_of
from spillover.lab.progress import Progress

SPLITS = 5


def held_out(pair: Pair, progress: Progress, seed: int = 0) -> dict[str, Floats]:
    """By policy the share of the gap closed on unseen halves, (2 * 5 splits, shares as `SHARES` has them)."""
    random = np.random.default_rng(seed)
    halves = [np.array_split(random.permutation(len(pair.edge_says)), 2) for _ in range(SPLITS)]
    ways = [way for first, second in halves for way in ((first, second), (second, first))]
    found: dict[str, list[list[float]]] = {}
    for seen, unseen in progress.track(ways, "held-out halves"):
        for name, shares in _one_way(pair, seen, unseen, random).items():
            found.setdefault(name, []).append(shares)
    return {name: np.array(rows) for name, rows in found.items()}


def _one_way(
    pair: Pair, seen: Indices, unseen: Indices, random: np.random.Generator
) -> dict[str, list[float]]:
    known, new = part_of(pair, seen.tolist()), part_of(pair, unseen.tolist())
    if pair.edge_says is not pair.own_says:
        known = calibrated(known)
        assert known.edge.calibration is not None  # noqa: S101 - `calibrated` has put it there
        new = replace(new, edge_says=recalibrated(new.own_says, known.edge.calibration))
    truth = known.data.truth
    mixture = mixture_of(truth, known.edge_says, known.cloud_says)
    model = GainModel(gain_file(known, Estimation(known, truth, mixture)))
    scores = dict(baselines(new.task, new.edge_says, known.report_threshold))
    scores[FITTED] = np.array([model.gain(prediction) for prediction in new.edge_says])
    judge = mixture_of(new.data.truth, new.edge_says, new.cloud_says, new.plain_says)
    curves = {name: curve_by_score(judge, score, random) for name, score in scores.items()}
    return {name: [p.gap_share or 0.0 for p in curve] for name, curve in curves.items()}


def at(share: float) -> int:
    """The column of a share sent."""
    return SHARES.index(share)
