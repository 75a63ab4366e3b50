"""Out-of-fold scores: every picture is scored by an estimator that was fitted on others."""

from collections.abc import Callable, Iterator

import numpy as np

from lab.evaluate.mixture import Floats
from lab.evaluate.progress import Progress
from lab.policy.ridge import Ridge, fit_ridge
from lab.policy.targets import Indices, Target

FOLDS = 5
REPEATS = 4

FeaturesOf = Callable[[Indices], Floats]
"""Features (N, features) of all pictures; what they need (a temperature) is fitted on the given ones."""


def fit_on(features_of: FeaturesOf, target: Target, train: Indices) -> tuple[Ridge, Floats]:
    """The estimator fitted on `train`, and the features of all pictures that it goes with."""
    features = features_of(train)
    return fit_ridge(features[train], target(train)), features


def cross_fitted(
    count: int, features_of: FeaturesOf, target: Target, random: np.random.Generator, progress: Progress
) -> list[Floats]:
    """Out-of-fold scores (count,) of each of 4 repeats of 5 folds."""
    splits = [list(_folds(random.permutation(count))) for _ in range(REPEATS)]
    scores = [np.empty(count) for _ in splits]
    jobs = [(repeat, *fold) for repeat, folds in enumerate(splits) for fold in folds]
    for repeat, train, test in progress.track(jobs, "fitting"):
        estimator, features = fit_on(features_of, target, train)
        scores[repeat][test] = estimator.predict(features[test])
    return scores


def _folds(order: Indices) -> Iterator[tuple[Indices, Indices]]:
    for fold in range(FOLDS):
        test = order[fold::FOLDS]
        yield np.setdiff1d(order, test), test
