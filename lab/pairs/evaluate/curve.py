"""Curves: accuracy over the share of pictures that are sent, for any order in which they would be sent."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from spillover.lab.pairs.evaluate.mixture import Floats, Mixture, Sent

SHARES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)
_RANDOM_DRAWS = 20


@dataclass(frozen=True, slots=True)
class Point:
    """`gap_share` is (accuracy - edge) / (cloud - edge), how much of the gap is closed; None without one."""

    offload: float
    accuracy: float
    gap_share: float | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


Curve = tuple[Point, ...]


def curve_by_score(mixture: Mixture, scores: Floats, random: np.random.Generator) -> Curve:
    """Send the highest scores first; equal ones in random order, so that the order of files is nothing."""
    order = np.lexsort([random.random(len(scores)), -scores])
    return curve_of(mixture, order)


def curve_of(mixture: Mixture, order: np.ndarray) -> Curve:
    """Send pictures in this order of indices."""
    return _points(mixture, [mixture.accuracy(_first(order, share)) for share in SHARES])


def mean_curve(mixture: Mixture, curves: Sequence[Curve]) -> Curve:
    """The mean of several curves of one mixture, share by share."""
    return _points(
        mixture, np.mean([[point.accuracy for point in curve] for curve in curves], axis=0).tolist()
    )


def random_curve(mixture: Mixture, random: np.random.Generator) -> Curve:
    """Send at random: the mean of 20 draws."""
    draws = [
        [mixture.accuracy(_first(order, share)) for share in SHARES]
        for order in (random.permutation(len(mixture)) for _ in range(_RANDOM_DRAWS))
    ]
    return _points(mixture, np.mean(draws, axis=0).tolist())


def oracle_curve(mixture: Mixture) -> Curve:
    """Send what gains most first: nobody without the labels could do so."""
    return curve_of(mixture, np.argsort(-mixture.reward(), kind="stable"))


def _first(order: np.ndarray, share: float) -> Sent:
    sent = np.zeros(len(order), np.bool_)
    sent[order[: round(len(order) * share)]] = True
    return sent


def _points(mixture: Mixture, accuracies: list[float]) -> Curve:
    edge, cloud = mixture.gap()
    gap = cloud - edge
    return tuple(
        Point(share, accuracy, (accuracy - edge) / gap if gap else None)
        for share, accuracy in zip(SHARES, accuracies, strict=True)
    )
