"""Runs each sink behind a bounded queue on a thread of its own, so that a slow sink delays nothing else."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from spillover.common.errors import InUseError
from spillover.common.log import get_logger
from spillover.common.types import Result
from spillover.edge.results.delivery import DeliveryAck, Event
from spillover.edge.runtime.parts import OnEnd, Worker
from spillover.edge.runtime.queues import BoundedQueue, WhenFull

_log = get_logger("sink")

MAX_UNFLUSHED = 1024
"""So many items wait in a sink whose disk is full or whose broker is away."""
_FLUSH_EVERY = 64
"""Where the sink never catches up, so many items are the most that a crash can cost."""

OnDrop = Callable[[str], None]
"""Called for each item that is lost, with the reason: `queue full`, `write failed`, `stopped`."""


class Sink(Protocol):
    """Takes results away. Used by one thread at a time; may block, may raise OSError.

    What `write` and `tell` took is held until a `flush` succeeds; one that fails can be tried again.
    """

    def start(self) -> None:
        """Start what runs in the background; called once, before anything is written."""
        ...

    def write(self, result: Result) -> None:
        """Accept a result; `flush` stores or sends it."""
        ...

    def tell(self, event: Event) -> None:
        """Accept an event; `flush` stores or sends it."""
        ...

    def flush(self) -> None:
        """Store or send everything accepted so far."""
        ...

    def reopen(self) -> None:
        """Flush to the file that is open, then go on in the one that is at its path now; else do nothing."""
        ...

    def close(self) -> None:
        """Release all resources, whether started or not; what was not flushed is lost."""
        ...


def _uncounted(_reason: str) -> None:
    """Default for `on_event_drop`: lost events are not counted."""


@dataclass(frozen=True, slots=True)
class OutletState:
    """One sink at one moment."""

    name: str
    stored: int
    """Results that it has."""
    waiting: int
    """Results and events that it does not have yet."""
    failing: bool
    """Whether its last attempt failed."""
    last_error: str
    """Empty: it has never failed."""
    last_error_s: float
    """When (monotonic)."""


class Outlet:
    """The queue in front of one sink. `put` never blocks; `run` is the body of the writing thread.

    `on_drop` is called for each result that is lost, `on_event_drop` for each event.
    """

    def __init__(
        self,
        name: str,
        sink: Sink,
        queue_size: int,
        on_drop: OnDrop,
        on_event_drop: OnDrop = _uncounted,
    ) -> None:
        self.name = name
        self._sink = sink
        self._queue: BoundedQueue[_Queued] = BoundedQueue(queue_size, WhenFull.DROP_NEWEST)
        self._on_drop = on_drop
        self._on_event_drop = on_event_drop
        self._failing = self._closing = False
        self._had_results = False
        self._stored = 0
        self._last_error, self._last_error_s = "", 0.0
        self._lost_since = 0
        """Items lost since the sink began to fail."""
        self._reopens = False
        self._unflushed: list[_Queued] = []

    def put(self, item: Result | Event, ack: DeliveryAck) -> None:
        """Queue a result or an event, or count it as dropped; `ack` is settled once."""
        self._had_results |= isinstance(item, Result)
        if (refused := self._queue.put(_Queued(item, ack))) is not None:
            self._lost(refused, "queue full")

    @property
    def lost_everything(self) -> bool:
        """Whether there were results, and not one of them is known to have reached the sink."""
        return self._had_results and not self._stored

    def state(self) -> OutletState:
        """The sink now."""
        waiting = len(self._queue) + len(self._unflushed)
        return OutletState(
            self.name, self._stored, waiting, self._failing, self._last_error, self._last_error_s
        )

    def reopen(self) -> None:
        """Let the sink go on in the file that is at its path, before it writes the next item."""
        self._reopens = True

    def wait_for_room(self, timeout_s: float) -> bool:
        """Wait until `put` would not drop, at most `timeout_s` seconds; tell whether it would not."""
        return self._queue.wait_for_room(timeout_s)

    def close(self) -> None:
        """Take no more; `run` ends when what is queued has been written, or could not be."""
        self._closing = True
        self._queue.close()

    def give_up(self) -> None:
        """Count as lost what the sink, in which the thread hangs, is not known to have; drop the queue."""
        for queued in [*self._unflushed, *self._queue.discard()]:
            self._lost(queued, "stopped")

    def run(self) -> None:
        """Write until `close`, then close the sink. Flushes whenever it has caught up."""
        self._sink.start()
        while (queued := self._queue.get()) is not None:
            self._write(queued)
        self._flush(last=True)
        self.close_sink()
        for queued in self._unflushed:
            self._lost(queued, "write failed")

    def close_sink(self) -> None:
        """Let go of the sink; a failure is logged."""
        try:
            self._sink.close()
        except OSError as error:
            _log.error("sink could not be closed", sink=self.name, error=str(error))

    def _write(self, queued: "_Queued") -> None:
        """A full disk or a reader that left costs results, never the daemon."""
        if self._reopens:
            self._reopen()
        if len(self._unflushed) >= MAX_UNFLUSHED and not self._flush():
            self._lost(queued, "write failed")
            return
        try:
            if isinstance(queued.item, Event):
                self._sink.tell(queued.item)
            else:
                self._sink.write(queued.item)
        except (OSError, InUseError) as error:
            self._lost(queued, "write failed")
            self._fails(error)
            return
        self._unflushed.append(queued)
        if not len(self._queue) or not len(self._unflushed) % _FLUSH_EVERY:
            self._flush()

    def _reopen(self) -> None:
        """What the old file cannot take now is tried again before each item, so that no line is torn."""
        try:
            self._sink.reopen()
        except (OSError, InUseError) as error:
            self._fails(error)
        else:
            self._reopens = False

    def _flush(self, *, last: bool = False) -> bool:
        if self._closing and self._failing and not last:
            return False  # each try may take seconds, and the daemon waits for the end
        try:
            self._sink.flush()
        except (OSError, InUseError) as error:
            self._fails(error)
            return False
        if not self._reopens:
            self._works()
        for item, ack in self._unflushed:
            self._stored += isinstance(item, Result)
            ack.complete(stored=True)
        self._unflushed.clear()
        return True

    def _works(self) -> None:
        if self._failing:
            _log.info("sink works again", sink=self.name, lost=self._lost_since)
        self._failing, self._lost_since = False, 0

    def _fails(self, error: OSError | InUseError) -> None:
        """Log a failing sink once until it works again."""
        if not self._failing:
            _log.error("sink fails", sink=self.name, error=str(error))
        self._failing = True
        self._last_error, self._last_error_s = str(error), time.monotonic()

    def _lost(self, queued: "_Queued", reason: str) -> None:
        self._lost_since += 1
        (self._on_event_drop if isinstance(queued.item, Event) else self._on_drop)(reason)
        queued.ack.complete(stored=False)


class _Queued(NamedTuple):
    """What is on its way to a sink, and the acknowledgement that it is there."""

    item: Result | Event
    ack: DeliveryAck


class Outlets:
    """All the sinks of a daemon: everything goes to each. Only `wait_for_room` and `stop` block."""

    def __init__(self, outlets: Sequence[Outlet], on_end: OnEnd) -> None:
        self._outlets = outlets
        self._writers = [Worker(f"sink {outlet.name}", outlet.run, on_end) for outlet in outlets]

    def start(self) -> None:
        """Start the writing threads."""
        for writer in self._writers:
            writer.start()

    def discard(self) -> None:
        """Close the sinks of a daemon that was never started."""
        for outlet in self._outlets:
            outlet.close_sink()

    def put(self, item: Result | Event) -> DeliveryAck:
        """Queue a result or an event for every sink; the acknowledgement tells when one of them has it."""
        ack = DeliveryAck(len(self._outlets))
        for outlet in self._outlets:
            outlet.put(item, ack)
        return ack

    def wait_for_room(self, timeout_s: float) -> bool:
        """Wait until `put` would drop nothing, at most `timeout_s` seconds a sink; tell whether it is so."""
        has_room = [outlet.wait_for_room(timeout_s) for outlet in self._outlets]
        return all(has_room)

    def reopen(self) -> None:
        """Let every sink go on in the file that is at its path, as logrotate wants it; never blocks."""
        for outlet in self._outlets:
            outlet.reopen()

    def states(self) -> list[OutletState]:
        """Every sink now."""
        return [outlet.state() for outlet in self._outlets]

    @property
    def lost_everything(self) -> list[str]:
        """Names of the sinks that have not one of the results; to be asked after `stop`."""
        return [outlet.name for outlet in self._outlets if outlet.lost_everything]

    def stop(self, deadline_s: float) -> bool:
        """Write what is queued and close the sinks, all at a time; whether all have ended by `deadline_s`."""
        for outlet in self._outlets:
            outlet.close()
        ended = [writer.ended_by(deadline_s) for writer in self._writers]
        for outlet, has_ended in zip(self._outlets, ended, strict=True):
            if not has_ended:
                outlet.give_up()
        return all(ended)
