"""What waits for a batch, and in which order: round robin over devices, then priority, then due time.

Round robin, so that a device which sends much delays itself and not the others. A priority orders only a
device's own requests, so that it cannot overtake another device's.
"""

import asyncio
import heapq
import math
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from spillover.common.types import Tensor


class Batched(msgspec.Struct, frozen=True, eq=False):
    """The rows of one request out of a batch.

    `queue_s` is from submission to the start of the run; `infer_s` is the run of the whole batch.
    """

    outputs: list[Tensor]
    queue_s: float
    infer_s: float


@dataclass(slots=True, eq=False)
class Work:
    """Inputs of one request, all with the same number of `rows` on their first axis.

    Times are `time.monotonic()` seconds. `due_s` orders a device's requests: an answer after it is late but
    still wanted. `expires_s` is the end of the call: then the work is skipped. `priority` orders before
    `due_s`, smaller first.
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
        """Whether its call has ended."""
        return self.future.cancelled() or now_s >= self.expires_s


@dataclass(order=True, slots=True)
class _Item:
    priority: int
    due_s: float
    number: int
    work: Work = field(compare=False)


class FairQueue:
    """Waiting work. Not thread-safe and not bounded: the batcher locks, admission bounds."""

    def __init__(self) -> None:
        self._heaps: OrderedDict[str, list[_Item]] = OrderedDict()
        self._number = 0
        self.rows = 0

    def __len__(self) -> int:
        return sum(map(len, self._heaps.values()))

    def push(self, work: Work) -> None:
        """Add one piece of work."""
        self._number += 1
        heap = self._heaps.setdefault(work.device, [])
        heapq.heappush(heap, _Item(work.priority, work.due_s, self._number, work))
        self.rows += work.rows

    def take(self, max_rows: int, now_s: float) -> tuple[list[Work], list[Work]]:
        """Remove and return (a batch, dead work found on the way).

        The batch has at most `max_rows` rows, all of one signature; a single request larger than that comes
        alone. It is empty when nothing alive waits.
        """
        batch: list[Work] = []
        dead: list[Work] = []
        rows = 0
        passed_over: set[str] = set()
        while rows < max_rows and (device := self._next_device(passed_over)) is not None:
            work = self._heaps[device][0].work
            if work.is_dead(now_s):
                dead.append(self._pop(device))
            elif not batch or (rows + work.rows <= max_rows and work.signature == batch[0].signature):
                batch.append(self._pop(device))
                rows += work.rows
            else:
                passed_over.add(device)
        return batch, dead

    def _next_device(self, passed_over: set[str]) -> str | None:
        return next((device for device in self._heaps if device not in passed_over), None)

    def _pop(self, device: str) -> Work:
        heap = self._heaps[device]
        work = heapq.heappop(heap).work
        self.rows -= work.rows
        if heap:
            self._heaps.move_to_end(device)
        else:
            del self._heaps[device]
        return work
