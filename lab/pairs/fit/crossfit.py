"""Out-of-fold scores: every picture is scored by an estimator that was fitted on others."""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from spillover.lab.pairs.evaluate.mixture import Floats
from spillover.lab.progress import Progress

FOLDS = 5
REPEATS = 4

Indices = npt.NDArray[np.intp]

FitAndScore = Callable[[Indices], Floats]
"""Fits on the given pictures alone, and scores all of them, (N,)."""


def cross_fitted(
    count: int, fit_and_score: FitAndScore, random: np.random.Generator, progress: Progress
) -> list[Floats]:
    """Out-of-fold scores (count,) of each of 4 repeats of 5 folds."""
    splits = [list(folds(random.permutation(count))) for _ in range(REPEATS)]
    scores = [np.empty(count) for _ in splits]
    jobs = [(repeat, *fold) for repeat, each in enumerate(splits) for fold in each]
    for repeat, train, test in progress.track(jobs, "fitting"):
        scores[repeat][test] = fit_and_score(train)[test]
    return scores


def folds(order: Indices) -> Iterator[tuple[Indices, Indices]]:
    """Pictures to fit on and pictures to score, five times; every picture is scored once."""
    for fold in range(FOLDS):
        test = order[fold::FOLDS]
        yield np.setdiff1d(order, test), test
