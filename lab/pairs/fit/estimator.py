"""The estimator of one pair: features and target of every picture, and the fit to some of them."""

from dataclasses import dataclass

import numpy as np

from spillover.edge.policy.gain import FEATURES, FeatureSettings
from spillover.lab.data.labelled import ClassLabels, CocoTruth
from spillover.lab.pairs.evaluate.mixture import Floats, Mixture
from spillover.lab.pairs.fit.crossfit import Indices
from spillover.lab.pairs.fit.pair import Pair
from spillover.lab.pairs.fit.ridge import Ridge, fit_ridge
from spillover.lab.pairs.fit.targets import TARGETS


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A ridge with what its features need."""

    ridge: Ridge
    settings: FeatureSettings
    features: Floats
    """Of all pictures, as this fit sees them."""


class Estimation:
    """Fits on some pictures of a pair; what the features need is fitted on the same."""

    def __init__(self, pair: Pair, truth: ClassLabels | CocoTruth, mixture: Mixture) -> None:
        self._settings = FeatureSettings(pair.classes, 1.0, np.zeros(0), pair.edge.confidence_threshold)
        self._features_of = FEATURES[pair.task]
        self._says = pair.edge_says
        self._target = TARGETS[pair.task](truth, mixture, pair.edge_says, pair.cloud_says, pair.classes)

    def fit(self, train: Indices) -> Fitted:
        """The estimator that has seen `train` and no others."""
        settings = self._target.fitted(self._settings, train)
        features = np.array([self._features_of(prediction, settings) for prediction in self._says])
        return Fitted(fit_ridge(features[train], self._target(train)), settings, features)

    def scores(self, train: Indices) -> Floats:
        """Fit on `train` and score every picture."""
        fitted = self.fit(train)
        return fitted.ridge.predict(fitted.features)
