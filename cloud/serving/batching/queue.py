"""The order in which waiting work is run: round robin over devices, then priority, then due time.

Round robin, so that a device which sends much delays itself and not the others; and a priority orders only a
device's own requests, so that it is no way past anybody else.
"""

import heapq
from collections import OrderedDict
from dataclasses import dataclass, field

from spillover.cloud.serving.batching.work import Work


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

    def drain(self) -> list[Work]:
        """Remove and return everything."""
        works = [item.work for heap in self._heaps.values() for item in heap]
        self._heaps.clear()
        self.rows = 0
        return works

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
