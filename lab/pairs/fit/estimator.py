"""The gain estimator of a pair: features and targets of all pictures, and the fit to some of them."""

from dataclasses import dataclass

import numpy as np

from spillover.edge.policy.gain import FEATURES, FeatureSettings
from spillover.lab.data.labelled import ClassLabels, CocoTruth
from spillover.lab.pairs.evaluate.mixture import Floats, Indices, Mixture
from spillover.lab.pairs.fit.pair import Pair
from spillover.lab.pairs.fit.ridge import Ridge, fit_ridge
from spillover.lab.pairs.fit.targets import TARGETS


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A ridge regression and the parameters of its features."""

    ridge: Ridge
    settings: FeatureSettings
    features: Floats
    """Of all pictures, with this fit's temperature and class weights."""


class Estimation:
    """Fits on some pictures of a pair; temperature and class weights come from the same pictures."""

    def __init__(self, pair: Pair, truth: ClassLabels | CocoTruth, mixture: Mixture) -> None:
        self._settings = FeatureSettings(pair.classes, 1.0, np.zeros(0), pair.edge.confidence_threshold)
        self._features_of = FEATURES[pair.task]
        self._predictions = pair.edge_predictions
        self._target = TARGETS[pair.task](
            truth, mixture, pair.edge_predictions, pair.cloud_predictions, pair.classes
        )

    def fit(self, train: Indices) -> Fitted:
        """The estimator fitted on `train` alone."""
        settings = self._target.fitted(self._settings, train)
        features = np.array([self._features_of(prediction, settings) for prediction in self._predictions])
        return Fitted(fit_ridge(features[train], self._target(train)), settings, features)

    def scores(self, train: Indices) -> Floats:
        """Fit on `train` and score every picture."""
        fitted = self.fit(train)
        return fitted.ridge.predict(fitted.features)
