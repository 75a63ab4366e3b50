"""How long an instance waits for the clients that it has just answered.

A client that sends one request after the other sends the next as soon as it has its answer. An instance that
runs the first of them at once runs the others behind it: two runs where one would do. Where a run costs much
beside its rows (the weights are read once for each), waiting for all of them pays. A lone client is never
delayed: there is nothing else to wait for.
"""

import time

from spillover.cloud.executors.latency import LatencyModel

_PATIENCE = 4
"""What is known of a run is its quickest; on a busy server, clients return several times slower than that.

On the weight-bound network of `make bench-cloud` 4 took .86/.94/.85 of the processor time a request of 1, at
4/16/64 connections, side by side.
"""


class BatchWindow:
    """The rows of one instance's last batch, whose clients may send again. Times are `time.monotonic()` s."""

    def __init__(self, latency: LatencyModel, max_rows: int) -> None:
        self._latency = latency
        self._max_rows = max_rows
        self._answered_s = 0.0
        self.rows = 1
        """With so many rows waiting, a run begins at once."""

    def answered(self, rows: int, waiting: int) -> None:
        """A batch of `rows` was answered, `waiting` rows came meanwhile."""
        self.rows = min(self._max_rows, rows + waiting)
        self._answered_s = time.monotonic()

    def wait_budget_s(self, rows: int, arrived_s: float) -> float:
        """Seconds to keep waiting while `rows` wait, the newest since `arrived_s`.

        Bounded for each row by what a run costs beside its rows, and in all by what a full run costs.
        """
        overhead_s = self._latency.overhead_s
        if rows >= self.rows or not overhead_s:
            return 0.0
        full_s = self._latency.expected_s(self._max_rows)
        until_s = min(arrived_s + _PATIENCE * overhead_s, self._answered_s + _PATIENCE * full_s)
        return until_s - time.monotonic()
