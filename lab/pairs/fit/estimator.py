"""The estimator of one pair: features and target of every picture, and the fit to some of them."""

from dataclasses import dataclass

import numpy as np

from spillover.edge.policy.gain import features_of
from spillover.lab.data.labelled import ClassLabels, CocoTruth
from spillover.lab.pairs.evaluate.mixture import Floats, Mixture
from spillover.lab.pairs.fit.crossfit import Indices
from spillover.lab.pairs.fit.pair import Pair
from spillover.lab.pairs.fit.ridge import Ridge, fit_ridge
from spillover.lab.pairs.fit.targets import BoxGain, ClassGain, fit_temperature


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A ridge with what its features need."""

    ridge: Ridge
    temperature: float
    class_weight: Floats
    features: Floats
    """Of all pictures, as this fit sees them."""


class Estimation:
    """Fits on some pictures of a pair; what the features need is fitted on the same."""

    def __init__(self, pair: Pair, truth: ClassLabels | CocoTruth, mixture: Mixture) -> None:
        self._pair = pair
        self._truth = truth
        self._target = (
            ClassGain(truth, pair.edge_says, pair.cloud_says, mixture)
            if isinstance(truth, ClassLabels)
            else BoxGain(truth, pair.edge_says, pair.cloud_says, pair.classes)
        )

    def fit(self, train: Indices) -> Fitted:
        """The estimator that has seen `train` and no others."""
        temperature, weight = self._temperature(train), self._class_weight(train)
        says, classes = self._pair.edge_says, self._pair.classes
        features = np.array(
            [features_of(p, classes, temperature, weight, self._pair.edge.confidence_threshold) for p in says]
        )
        return Fitted(fit_ridge(features[train], self._target(train)), temperature, weight, features)

    def scores(self, train: Indices) -> Floats:
        """Fit on `train` and score every picture."""
        fitted = self.fit(train)
        return fitted.ridge.predict(fitted.features)

    def _temperature(self, train: Indices) -> float:
        if not isinstance(self._truth, ClassLabels):
            return 1.0
        return fit_temperature([self._pair.edge_says[i] for i in train], self._truth.class_id[train])

    def _class_weight(self, train: Indices) -> Floats:
        return self._target.class_weight(train) if isinstance(self._target, BoxGain) else np.zeros(0)
