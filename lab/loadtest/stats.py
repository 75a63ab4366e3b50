"""Repeats of a measurement as one figure: the median, and the interval that it comes with."""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np


class Summary(msgspec.Struct, frozen=True):
    """The median of the repeats, between the smallest and the largest of them.

    For R independent repeats the interval from smallest to largest holds the true median with probability
    1 - 2^(1-R), whatever the distribution: 50 % for 2, 75 % for 3, 94 % for 5 (order statistics; David and
    Nagaraja 2003, section 7.1).
    """

    median: float
    low: float
    high: float
    repeats: int

    @property
    def coverage(self) -> float:
        """Probability that the interval holds the true median."""
        return 1 - 2.0 ** (1 - self.repeats)


def summarise(runs: Sequence[Mapping[str, float]]) -> dict[str, Summary]:
    """Every figure that each of the runs has."""
    names = [name for name in runs[0] if all(name in run for run in runs)]
    return {name: _summary([run[name] for run in runs]) for name in names}


def _summary(figures: Sequence[float]) -> Summary:
    return Summary(float(np.median(figures)), min(figures), max(figures), len(figures))


def percentile_ms(seconds: np.ndarray[tuple[int], np.dtype[np.float64]], percent: float) -> float | None:
    """A percentile in milliseconds of the entries that are not NaN; None where there are none.

    The value is one that was measured (the next higher one), so that p99.9 of few frames is their maximum
    and no interpolation makes it look better.
    """
    known = seconds[~np.isnan(seconds)]
    return float(np.percentile(known, percent, method="higher") * 1e3) if known.size else None
