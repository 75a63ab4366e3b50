"""A sink behind a bounded queue and a thread, so that nobody waits for it."""

from collections.abc import Callable
from typing import NamedTuple

from spillover.common.log import get_logger
from spillover.common.types import Result
from spillover.edge.results.delivery import DeliveryAck, Event
from spillover.edge.runtime.queues import BoundedQueue, WhenFull
from spillover.edge.sinks.base import Sink

_log = get_logger("sink")

MAX_UNFLUSHED = 1024
"""So many items wait in a sink whose disk is full or whose broker is away."""
_FLUSH_EVERY = 64
"""Where the sink never catches up, so many items are the most that a crash can cost."""

OnDrop = Callable[[str], None]
"""Called with the reason, `queue full` or `write failed`, for each item that this sink will not have."""


def _unheard(_reason: str) -> None:
    """What hears of lost events where nobody asks."""


class Outlet:
    """The way to one sink. `put` never blocks; `run` is the body of the writing thread.

    `on_drop` hears of each result that is lost, `on_event_drop` of each event.
    """

    def __init__(
        self, sink: Sink, queue_size: int, on_drop: OnDrop, on_event_drop: OnDrop = _unheard
    ) -> None:
        self._sink = sink
        self._queue: BoundedQueue[_Queued] = BoundedQueue(queue_size, WhenFull.DROP_NEWEST)
        self._on_drop = on_drop
        self._on_event_drop = on_event_drop
        self._failing = self._closing = False
        self._had_results = self._kept_results = False
        self._unflushed: list[_Queued] = []

    def put(self, item: Result | Event, ack: DeliveryAck) -> None:
        """Queue a result or an event, or count it as dropped; `ack` is settled once."""
        self._had_results |= isinstance(item, Result)
        if (refused := self._queue.put(_Queued(item, ack))) is not None:
            self._lost(refused, "queue full")

    @property
    def lost_everything(self) -> bool:
        """Whether there were results, and not one of them is known to have reached the sink."""
        return self._had_results and not self._kept_results

    def wait_for_room(self, timeout_s: float) -> None:
        """Wait until `put` would not drop, at most `timeout_s` seconds."""
        self._queue.wait_for_room(timeout_s)

    def close(self) -> None:
        """Take no more; `run` ends when what is queued has been written, or could not be."""
        self._closing = True
        self._queue.close()

    def run(self) -> None:
        """Write until `close`, then close the sink. Flushes whenever it has caught up."""
        while (queued := self._queue.get()) is not None:
            self._write(queued)
        self._flush(last=True)
        try:
            self._sink.close()
        except OSError as error:
            _log.error("sink could not be closed", error=str(error))
        for queued in self._unflushed:
            self._lost(queued, "write failed")

    def _write(self, queued: "_Queued") -> None:
        """A full disk or a reader that left costs results, never the daemon."""
        if len(self._unflushed) >= MAX_UNFLUSHED and not self._flush():
            self._lost(queued, "write failed")
            return
        try:
            if isinstance(queued.item, Event):
                self._sink.tell(queued.item)
            else:
                self._sink.write(queued.item)
        except OSError as error:
            self._lost(queued, "write failed")
            self._fails(error)
            return
        self._unflushed.append(queued)
        if not len(self._queue) or not len(self._unflushed) % _FLUSH_EVERY:
            self._flush()

    def _flush(self, *, last: bool = False) -> bool:
        if self._closing and self._failing and not last:
            return False  # each try may take seconds, and the daemon waits for the end
        try:
            self._sink.flush()
        except OSError as error:
            self._fails(error)
            return False
        self._failing = False
        for item, ack in self._unflushed:
            self._kept_results |= isinstance(item, Result)
            ack.complete(stored=True)
        self._unflushed.clear()
        return True

    def _fails(self, error: OSError) -> None:
        """Logged once a streak."""
        if not self._failing:
            _log.error("sink fails", error=str(error))
        self._failing = True

    def _lost(self, queued: "_Queued", reason: str) -> None:
        (self._on_event_drop if isinstance(queued.item, Event) else self._on_drop)(reason)
        queued.ack.complete(stored=False)


class _Queued(NamedTuple):
    """What is on its way to a sink, and who waits to hear that it is there."""

    item: Result | Event
    ack: DeliveryAck
