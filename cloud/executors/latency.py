"""What runs of a network cost: one row, a row more, and whether recent runs were short."""

import math

SHORT_S = 5e-3
"""A run that takes longer is not short. A tenth of the lag that the event loop may have."""

_FIRST_BAR, _LONGEST_BAR = 64, 1 << 16


class LatencyModel:
    """Learns from every run; the quickest of a kind is what it costs when nothing disturbs it.

    `many` is the number of rows, two or more, whose runs are compared with those of one row. Several threads
    may call `learn`: a figure that is lost to another thread is no harm.
    """

    def __init__(self, many: int = 2) -> None:
        self._many = many
        self._one_s = math.inf
        self._many_s = math.inf
        self._bar = _FIRST_BAR
        self._barred_runs = 0

    def learn(self, rows: int, seconds: float) -> None:
        """A run of `rows` took `seconds`."""
        if rows == 1:
            self._one_s = min(self._one_s, seconds)
        elif rows == self._many:
            self._many_s = min(self._many_s, seconds)
        if seconds > SHORT_S:
            self._barred_runs = self._bar
            self._bar = min(2 * self._bar, _LONGEST_BAR)
        elif self._barred_runs:
            self._barred_runs -= 1

    @property
    def recently_short(self) -> bool:
        """Whether no run took longer than `SHORT_S` lately: in the last 64 runs, twice as many each time.

        What depends on the values of its input, a loop in the network say, may be quick for long and then
        not: each time it costs the network more runs until this is true again.
        """
        return not self._barred_runs

    @property
    def overhead_s(self) -> float:
        """What a run costs beside its rows, in seconds; 0 where that is less than half of it, or unknown."""
        if math.isinf(self._one_s) or math.isinf(self._many_s):
            return 0.0
        overhead_s = self._one_s - self._row_s
        return overhead_s if overhead_s > self._one_s / 2 else 0.0

    def expected_s(self, rows: int) -> float:
        """The least time that a run of `rows` takes, in seconds; infinite while unknown."""
        return self._one_s if rows == 1 else self._one_s + (rows - 1) * self._row_s

    @property
    def _row_s(self) -> float:
        if math.isinf(self._many_s):
            return self._one_s
        return min(max((self._many_s - self._one_s) / (self._many - 1), 0.0), self._one_s)
