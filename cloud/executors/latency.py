"""What runs of a network cost: one row, and a row more."""

import math


class LatencyModel:
    """Learns from every run; the quickest of a kind is what it costs when nothing disturbs it.

    `many` is the number of rows, two or more, whose runs are compared with those of one row.
    """

    def __init__(self, many: int = 2) -> None:
        self._many = many
        self._one_s = math.inf
        self._many_s = math.inf

    def learn(self, rows: int, seconds: float) -> None:
        """A run of `rows` took `seconds`."""
        if rows == 1:
            self._one_s = min(self._one_s, seconds)
        elif rows == self._many:
            self._many_s = min(self._many_s, seconds)

    @property
    def overhead_s(self) -> float:
        """What a run costs beside its rows, in seconds; 0 where that is less than half of it, or unknown."""
        if math.isinf(self._one_s) or math.isinf(self._many_s):
            return 0.0
        overhead_s = self._one_s - self._row_s
        return overhead_s if overhead_s > self._one_s / 2 else 0.0

    def expected_s(self, rows: int) -> float:
        """The least time that a run of `rows` takes, in seconds; infinite when nobody knows."""
        return self._one_s if rows == 1 else self._one_s + (rows - 1) * self._row_s

    @property
    def _row_s(self) -> float:
        if math.isinf(self._many_s):
            return self._one_s
        return min(max((self._many_s - self._one_s) / (self._many - 1), 0.0), self._one_s)
