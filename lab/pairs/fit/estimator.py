"""The gain estimator of a pair: features and targets of all pictures, and the fit to some of them."""

from dataclasses import dataclass

import numpy as np

from spillover.edge.policy.gain import features_of
from spillover.lab.data.labelled import ClassLabels, CocoTruth
from spillover.lab.pairs.evaluate.mixture import Floats, Indices, Mixture
from spillover.lab.pairs.fit.pair import Pair
from spillover.lab.pairs.fit.ridge import Ridge, fit_ridge
from spillover.lab.pairs.fit.targets import BoxGain, ClassGain, fit_temperature


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A ridge regression and the parameters of its features."""

    ridge: Ridge
    temperature: float
    class_weight: Floats
    features: Floats
    """Of all pictures, with this fit's temperature and class weights."""


class Estimation:
    """Fits on some pictures of a pair; temperature and class weights come from the same pictures."""

    def __init__(self, pair: Pair, truth: ClassLabels | CocoTruth, mixture: Mixture) -> None:
        self._pair = pair
        self._truth = truth
        self._target = (
            ClassGain(truth, pair.edge_predictions, pair.cloud_predictions, mixture)
            if isinstance(truth, ClassLabels)
            else BoxGain(truth, pair.edge_predictions, pair.cloud_predictions, pair.classes)
        )

    def fit(self, train: Indices) -> Fitted:
        """The estimator fitted on `train` alone."""
        temperature, weight = self._temperature(train), self._class_weight(train)
        pair = self._pair
        features = np.array(
            [
                features_of(p, pair.classes, temperature, weight, pair.edge.confidence_threshold)
                for p in pair.edge_predictions
            ]
        )
        return Fitted(fit_ridge(features[train], self._target(train)), temperature, weight, features)

    def scores(self, train: Indices) -> Floats:
        """Fit on `train` and score every picture."""
        fitted = self.fit(train)
        return fitted.ridge.predict(fitted.features)

    def _temperature(self, train: Indices) -> float:
        if not isinstance(self._truth, ClassLabels):
            return 1.0
        return fit_temperature([self._pair.edge_predictions[i] for i in train], self._truth.class_id[train])

    def _class_weight(self, train: Indices) -> Floats:
        return self._target.class_weight(train) if isinstance(self._target, BoxGain) else np.zeros(0)
