"""What each version has done since it was loaded, in the terms of the protocol's statistics extension."""

import time
from collections import defaultdict
from dataclasses import dataclass, field


@dataclass(slots=True)
class Total:
    """How often something was done, and the seconds that it took in all."""

    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one more that took `seconds`."""
        self.count += 1
        self.seconds += seconds


@dataclass(slots=True)
class Statistics:
    """Totals of one version. Everything but `rows`, `runs` and `batches` counts requests.

    `queue` and the three of `compute_*` count the same requests, those that were answered, at every moment:
    perf_analyzer ends where they differ.
    """

    success: Total = field(default_factory=Total)
    fail: Total = field(default_factory=Total)
    queue: Total = field(default_factory=Total)
    compute_input: Total = field(default_factory=Total)
    compute_infer: Total = field(default_factory=Total)
    compute_output: Total = field(default_factory=Total)
    batches: dict[int, Total] = field(default_factory=lambda: defaultdict(Total))
    """Runs by their number of rows."""
    rows: int = 0
    runs: int = 0
    last_unix_ms: int = 0

    def batch_done(self, rows: int, infer_s: float) -> None:
        """Count one run of `rows` that took `infer_s` seconds."""
        self.rows += rows
        self.runs += 1
        self.batches[rows].add(infer_s)
        self.last_unix_ms = round(time.time() * 1000)

    def answered(self, *, input_s: float, queue_s: float, infer_s: float, output_s: float) -> None:
        """One request was answered: what making its input, waiting, its run and its output took."""
        self.compute_input.add(input_s)
        self.queue.add(queue_s)
        self.compute_infer.add(infer_s)
        self.compute_output.add(output_s)
