"""One request inside the batcher, and what comes back for it."""

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from spillover.common.wire.tensors import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Batched:
    """The rows of one request out of a batch.

    `queue_s` is from submission to the start of the run; `infer_s` is the whole batch's run, and
    `batch_rows` the rows that were in it.
    """

    outputs: list[Tensor]
    queue_s: float
    infer_s: float
    batch_rows: int


@dataclass(slots=True, eq=False)
class Work:
    """Inputs of one request, all with the same number of `rows` on their first axis.

    Times are `time.monotonic()` seconds. `due_s` orders a device's requests: an answer after it is late but
    still wanted. `expires_s` is the end of the call: after it nobody listens, and the work is skipped.
    `priority` orders before `due_s`, smaller first.
    """

    inputs: Sequence[Tensor]
    rows: int
    future: "asyncio.Future[Batched]"
    device: str = ""
    priority: int = 0
    due_s: float = math.inf
    expires_s: float = math.inf
    submitted_s: float = field(default_factory=time.monotonic)

    @property
    def signature(self) -> tuple[tuple[int, ...], ...]:
        """Shapes without the batch axis: only equal ones can share a batch."""
        return tuple(tensor.shape[1:] for tensor in self.inputs)

    def is_dead(self, now_s: float) -> bool:
        """Whether nobody waits for the answer any more."""
        return self.future.cancelled() or now_s >= self.expires_s
