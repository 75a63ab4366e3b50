"""Ridge regression with the penalty of least leave-one-out error (ESL, 7.10), and cross-fitting."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from spillover.lab.pairs.evaluate.mixture import Floats, Indices
from spillover.lab.terminal import Progress

PENALTIES = np.logspace(0, 5, 21)
_FLAT = 1e-9
FOLDS = 5
REPEATS = 4

FitAndScore = Callable[[Indices], Floats]
"""Fits on the given pictures alone, and scores all of them, (N,)."""


@dataclass(frozen=True, slots=True, eq=False)
class Ridge:
    """y = bias + weights . (x - mean) / scale; `mean`, `scale` and `weights` are (features,)."""

    mean: Floats
    scale: Floats
    weights: Floats
    bias: float

    def predict(self, x: Floats) -> Floats:
        """Predictions (N,) for features (N, features)."""
        predicted: Floats = (x - self.mean) / self.scale @ self.weights + self.bias
        return predicted


def fit_ridge(x: Floats, y: Floats) -> Ridge:
    """Fit features (N, features) to targets (N,); features that never vary get no weight."""
    mean, scale = _scales(x)
    weights = _weights((x - mean) / scale, y)
    return Ridge(mean, scale, weights, float(y.mean()))


def cross_fitted(
    count: int,
    fit_and_score: FitAndScore,
    random: np.random.Generator,
    progress: Progress,
    stretch: int = 1,
) -> list[Floats]:
    """Scores (count,) of each of 4 repeats of 5 folds, each picture's by a fit to other pictures."""
    splits = [list(folds(count, random, stretch)) for _ in range(REPEATS)]
    scores = [np.empty(count) for _ in splits]
    jobs = [(repeat, *fold) for repeat, split in enumerate(splits) for fold in split]
    for repeat, train, test in progress.track(jobs, "fitting"):
        scores[repeat][test] = fit_and_score(train)[test]
    return scores


def folds(count: int, random: np.random.Generator, stretch: int = 1) -> Iterator[tuple[Indices, Indices]]:
    """Pictures to fit on and pictures to score, five times; every picture is scored once.

    `stretch` neighbours, which look alike, are never divided between the two.
    """
    of_stretch = np.arange(count) // stretch
    order = random.permutation(of_stretch[-1] + 1)
    for fold in range(FOLDS):
        test = np.flatnonzero(np.isin(of_stretch, order[fold::FOLDS]))
        yield np.setdiff1d(np.arange(count), test), test


def _scales(x: Floats) -> tuple[Floats, Floats]:
    deviation = x.std(axis=0)
    return x.mean(axis=0), np.where(deviation > _FLAT, deviation, 1.0)


def _weights(z: Floats, y: Floats) -> Floats:
    """Weights of the centred `z` (N, features)."""
    u, s, vt = np.linalg.svd(z, full_matrices=False)
    centred = y - y.mean()
    projected = u.T @ centred
    penalty = min(PENALTIES, key=lambda p: _leave_one_out(u, s, projected, centred, p))
    weights: Floats = vt.T @ (s / (s**2 + penalty) * projected)
    return weights


def _leave_one_out(u: Floats, s: Floats, projected: Floats, centred: Floats, penalty: float) -> float:
    """Mean squared error of each target predicted from the others: residual / (1 - leverage)."""
    shrink = s**2 / (s**2 + penalty)
    residual = centred - u @ (shrink * projected)
    leverage = (u**2) @ shrink + 1.0 / len(centred)
    return float(np.mean((residual / np.maximum(1.0 - leverage, _FLAT)) ** 2))
