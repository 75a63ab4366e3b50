"""What each version has done since it was loaded, in the terms of the protocol's statistics extension."""

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Total:
    """How often something was done, and the seconds that it took in all."""

    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float, count: int = 1) -> None:
        """Count `count` more that took `seconds` together."""
        self.count += count
        self.seconds += seconds


@dataclass(slots=True)
class Statistics:
    """Totals of one version. Everything but `runs` and `batches` counts requests."""

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

    def batch_done(self, rows: int, infer_s: float, queue_s: Sequence[float]) -> None:
        """One run of `rows` for requests that had waited `queue_s`."""
        self.rows += rows
        self.runs += 1
        self.batches[rows].add(infer_s)
        self.queue.add(sum(queue_s), len(queue_s))
        self.compute_infer.add(infer_s * len(queue_s), len(queue_s))
        self.last_unix_ms = round(time.time() * 1000)
