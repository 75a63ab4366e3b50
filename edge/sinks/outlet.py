"""A sink behind a bounded queue and a thread, so that nobody waits for it."""

import threading
from collections.abc import Callable

from common.log import get_logger
from common.types import Result
from edge.queues import BoundedQueue, WhenFull
from edge.sinks.base import Sink
from edge.values import Event

_log = get_logger("sink")

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
        self._queue: BoundedQueue[Result | Event] = BoundedQueue(queue_size, WhenFull.DROP_NEWEST)
        self._on_drop = on_drop
        self._on_event_drop = on_event_drop
        self._failing = False
        self._had_results = self._unflushed_results = self._kept_results = False
        self._flushed = threading.Condition()
        self._put_count = self._flushed_count = self._taken_count = 0

    def put(self, item: Result | Event) -> None:
        """Queue a result or an event, or count it as dropped."""
        self._had_results |= isinstance(item, Result)
        with self._flushed:
            if self._queue.put(item) is None:
                self._put_count += 1
                return
        self._lost(item, "queue full")

    @property
    def lost_everything(self) -> bool:
        """Whether there were results, and not one of them is known to have reached the sink."""
        return self._had_results and not self._kept_results

    def wait_for_room(self, timeout_s: float) -> None:
        """Wait until `put` would not drop, at most `timeout_s` seconds."""
        self._queue.wait_for_room(timeout_s)

    def wait_until_flushed(self, timeout_s: float) -> bool:
        """Wait until what was put so far is flushed, at most `timeout_s` seconds; tell whether it is."""
        with self._flushed:
            goal = self._put_count
            return self._flushed.wait_for(lambda: self._flushed_count >= goal, timeout_s)

    def close(self) -> None:
        """Take no more; `run` ends when what is queued has been written."""
        self._queue.close()

    def run(self) -> None:
        """Write until `close`, then close the sink. Flushes whenever it has caught up."""
        while (item := self._queue.get()) is not None:
            self._taken_count += 1
            self._write(item)
        try:
            self._sink.close()
        except OSError as error:
            _log.error("sink could not be closed", error=str(error))
        else:
            self._kept_results |= self._unflushed_results and not self._failing

    def _write(self, item: Result | Event) -> None:
        """A full disk or a reader that left costs results, never the daemon; logged once a streak."""
        try:
            if isinstance(item, Event):
                self._sink.tell(item)
            else:
                self._sink.write(item)
                self._unflushed_results = True
            if not len(self._queue):
                self._sink.flush()
                self._note_flushed()
        except OSError as error:
            self._lost(item, "write failed")
            if not self._failing:
                _log.error("sink fails", error=str(error))
            self._failing = True
        else:
            self._failing = False

    def _lost(self, item: Result | Event, reason: str) -> None:
        (self._on_event_drop if isinstance(item, Event) else self._on_drop)(reason)

    def _note_flushed(self) -> None:
        self._kept_results |= self._unflushed_results
        with self._flushed:
            self._flushed_count = self._taken_count
            self._flushed.notify_all()
