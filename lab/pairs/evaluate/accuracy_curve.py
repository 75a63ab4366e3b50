"""Accuracy over the share of pictures sent, for any order of sending, with bootstrap intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from spillover.lab.pairs.evaluate.mixture import Floats, Indices, Mixture, Sent

SHARES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)
JUDGED = SHARES.index(0.2)
"""Number of the share at which policies are compared in a sentence."""
RESAMPLES = 100
_RANDOM_DRAWS = 20


@dataclass(frozen=True, slots=True)
class Point:
    """`gap_share` is (accuracy - edge) / (cloud - edge), how much of the gap is closed; None without one."""

    offload: float
    accuracy: float
    gap_share: float | None


Curve = tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Interval:
    """Encloses the gap share in 95 of 100 sets of pictures like this one; None without a gap."""

    low: float | None
    high: float | None


def curve_by_score(mixture: Mixture, scores: Floats, random: np.random.Generator) -> Curve:
    """Send the highest scores first; equal scores go in random order, whatever the order of the files."""
    return curve_of(mixture, _by_score(scores, random))


def curve_of(mixture: Mixture, order: Indices) -> Curve:
    """Send pictures in this order of indices."""
    return _points(mixture, [mixture.accuracy(_first(order, share)) for share in SHARES])


def mean_curve(mixture: Mixture, curves: Sequence[Curve]) -> Curve:
    """The mean of several curves of one mixture, share by share."""
    return _points(
        mixture, np.mean([[point.accuracy for point in curve] for curve in curves], axis=0).tolist()
    )


def random_curve(mixture: Mixture, random: np.random.Generator) -> Curve:
    """Send at random: the mean of 20 draws."""
    orders = [random.permutation(len(mixture)) for _ in range(_RANDOM_DRAWS)]
    return mean_curve(mixture, [curve_of(mixture, order) for order in orders])


def oracle_curve(mixture: Mixture) -> Curve:
    """Send the pictures that gain most first, judged by the labels."""
    return curve_of(mixture, np.argsort(-mixture.reward(), kind="stable"))


def gap_intervals(
    mixture: Mixture, scores: Sequence[Floats], random: np.random.Generator, stretch: int = 1
) -> list[Interval]:
    """One interval for each of the usual shares, for pictures sent by descending score.

    Bootstrap over pictures (Efron, 1979); resamples that leave no gap are dropped, which SciPy's bootstrap
    cannot do. Several score vectors (repeats of a cross-fit) are resampled in turn, so that the interval
    covers their differences too. `stretch` neighbours, which look alike, are drawn together.
    """
    resampled = (_resampled(mixture, scores[n % len(scores)], random, stretch) for n in range(RESAMPLES))
    draws = [draw for draw in resampled if draw is not None]
    if not draws:
        return [Interval(None, None)] * len(SHARES)
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    return [Interval(float(a), float(b)) for a, b in zip(low, high, strict=True)]


def verdict(
    best: str, curves: Mapping[str, Curve], interval: Interval, ends: tuple[float, float], otherwise: str
) -> str:
    """Which policy to take, in a sentence or two.

    `best` is the one that closes most of the gap at the share `JUDGED`, with its `interval`; `curves` has
    `random` too. `ends` are the accuracy of the edge and of the cloud; `otherwise` is said where no policy
    is sure to beat chance.
    """
    sent, closed = f"{SHARES[JUDGED]:.0%}", curves[best][JUDGED].gap_share
    if closed is None or ends[1] <= ends[0]:
        return "The cloud is no better than the edge on these pictures: there is no gap to close."
    by_chance = curves["random"][JUDGED].gap_share or 0.0
    if interval.low is None or interval.high is None or interval.low <= by_chance:
        return (
            f"No policy is sure to beat sending at random on these pictures: with {sent} sent, {best} "
            f"closes {closed:.0%} of the gap, and chance {by_chance:.0%}. {otherwise}"
        )
    return (
        f"Take {best}: with {sent} of the pictures sent it closes {closed:.0%} of the gap (95 % interval "
        f"{interval.low:.0%} to {interval.high:.0%}), where chance closes {by_chance:.0%}."
    )


def _resampled(mixture: Mixture, scores: Floats, random: np.random.Generator, stretch: int) -> Floats | None:
    """Gap shares of as many pictures drawn with replacement; None where these leave no gap."""
    count = -(-len(scores) // stretch)
    drawn = random.integers(0, count, count)
    pictures = (drawn[:, None] * stretch + np.arange(stretch)).ravel()
    pictures = pictures[pictures < len(scores)]  # the last stretch may be shorter
    order = _by_score(scores[pictures], random)
    edge, cloud = mixture.gap(pictures)
    if cloud <= edge:
        return None
    accuracies = [mixture.accuracy(_first(order, share), pictures) for share in SHARES]
    return (np.array(accuracies) - edge) / (cloud - edge)


def _by_score(scores: Floats, random: np.random.Generator) -> Indices:
    return np.lexsort([random.random(len(scores)), -scores])


def _first(order: Indices, share: float) -> Sent:
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
