"""How sure a curve is: the bootstrap over pictures (Efron, 1979)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spillover.lab.pairs.evaluate.curve import SHARES
from spillover.lab.pairs.evaluate.mixture import Floats, Mixture

RESAMPLES = 100


@dataclass(frozen=True, slots=True)
class Interval:
    """Encloses the gap share in 95 of 100 sets of pictures like this one; None without a gap."""

    low: float | None
    high: float | None


def gap_intervals(mixture: Mixture, scores: Sequence[Floats], random: np.random.Generator) -> list[Interval]:
    """One interval for each of the usual shares, for pictures sent by descending score.

    Several score vectors (repeats of a cross-fit) are drawn from in turn, so that the interval holds their
    differences too.
    """
    draws = [draw for n in range(RESAMPLES) if (draw := _resampled(mixture, scores[n % len(scores)], random))]
    if not draws:
        return [Interval(None, None)] * len(SHARES)
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    return [Interval(float(a), float(b)) for a, b in zip(low, high, strict=True)]


def _resampled(mixture: Mixture, scores: Floats, random: np.random.Generator) -> list[float] | None:
    count = len(scores)
    pictures = random.integers(0, count, count)
    order = np.lexsort([random.random(count), -scores[pictures]])
    accuracies = []
    for share in SHARES:
        sent = np.zeros(count, np.bool_)
        sent[order[: round(count * share)]] = True
        accuracies.append(mixture.resampled_accuracy(sent, pictures))
    edge, cloud = mixture.gap(pictures)
    gap = cloud - edge
    return [(accuracy - edge) / gap for accuracy in accuracies] if gap > 0 else None
