"""A bounded queue in front of one sink, whose thread writes what it takes and survives a sink that fails."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from spillover.common.errors import InUseError
from spillover.common.log import get_logger
from spillover.common.types import Result
from spillover.edge.results.delivery import DeliveryAck, Event
from spillover.edge.runtime.queues import BoundedQueue, WhenFull
from spillover.edge.sinks.sink import Sink

_log = get_logger("sink")

MAX_UNFLUSHED = 1024
"""So many items wait in a sink whose disk is full or whose broker is away."""
_ROOM_LOOK_S = 0.5
"""A sink that takes nothing is asked for its reason this often."""
_RETRY_S = 1.0
"""A sink that fails while nothing comes is tried again this often."""
_FLUSH_EVERY = 64
"""Where the sink never catches up, so many items are the most that a crash can cost."""

REFUSED = "refused"
"""The reason of what the other side will never take."""

OnDrop = Callable[[str], None]
"""Called for each item that is lost, with the reason: `queue full`, `write failed`, `refused`, `stopped`."""
Order = Callable[[], None]
"""What the writing thread does between two items."""
MakeSink = Callable[[], Sink]


Takes = Callable[[Result | Event], bool]
"""Whether the sink has to do with an item; on any thread."""


def _everything(_item: Result | Event) -> bool:
    """Default for `takes`."""
    return True


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

    `on_drop` is called for each result that is lost, `on_event_drop` for each event. `when_full` says which
    item a full queue gives up: the newest, which keeps a file whole, or the oldest, which keeps a broker's
    subscribers current. What it does not take (`takes`) is not the sink's, and nobody's loss. Of a sink that
    does not keep results (`keeps`), none is stored by it.
    """

    def __init__(
        self,
        name: str,
        sink: Sink,
        queue_size: int,
        on_drop: OnDrop,
        on_event_drop: OnDrop = _uncounted,
        when_full: WhenFull = WhenFull.DROP_NEWEST,
        takes: Takes = _everything,
        *,
        keeps: bool = True,
    ) -> None:
        self.name = name
        self._sink = sink
        self._queue: BoundedQueue[_Queued | Order] = BoundedQueue(queue_size, when_full)
        self._replacement: MakeSink | None = None
        self._at_once: deque[Order] = deque()
        self._states: dict[object, Event] = {}
        """The last state of each camera, zone and line, for a sink that takes the place of this one."""
        self._takes = takes
        self._keeps = keeps
        self._on_drop = on_drop
        self._on_event_drop = on_event_drop
        self._failing = self._closing = False
        self._had_results = False
        self._stored = 0
        self._last_error, self._last_error_s = "", 0.0
        self._lost_since = 0
        """Items lost since the sink began to fail."""
        self._reopens = False
        self._reopen_waits = False
        """Whether a `reopen` is in the queue."""
        self._unflushed: list[_Queued] = []

    def put(self, item: Result | Event, ack: DeliveryAck) -> None:
        """Queue a result or an event, or count it as dropped; `ack` is settled once."""
        if isinstance(item, Event):
            self.notice(item)
        if not self._takes(item):
            ack.complete(stored=False)  # so that what another sink has to store is not forgotten
            return
        if not self._keeps:
            ack.complete(stored=False)
            ack = DeliveryAck(1)  # nobody's
        self._had_results |= self._keeps and isinstance(item, Result)
        refused = self._queue.put(_Queued(item, ack))
        if isinstance(refused, _Queued):
            self._lost(refused, "queue full")
        elif refused is not None:  # the oldest was no item, and is not given up
            self._queue.put_beyond(refused)

    def stores(self, item: Result | Event) -> bool:
        """Whether the item is one that this sink is to store."""
        return self._keeps and self._takes(item)

    def notice(self, event: Event) -> None:
        """Have the sink learn of an event, and a sink that takes its place; it is no item of its queue."""
        if (state_of := event.state_of) is not None:
            self._states[state_of] = event
        self._sink.notice(event)

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
        """Let the sink go on in the file that is at its path; what was put before is for the old one."""
        if not self._reopen_waits:  # one that has not begun opens what is at the path by then
            self._reopen_waits = True
            self._queue.put_beyond(self._reopen)

    def replace(self, make: MakeSink, queue_size: int, *, carry: bool = False) -> None:
        """Close the sink and go on with what `make` gives, once all that was put before is stored.

        `make` runs on the writing thread when the old sink is closed, so that both may use one file. `carry`:
        at once, and the new sink is given again what the old one could not store.
        """

        def exchange() -> None:
            self._replacement = make
            if not self._flush() and carry:
                self._exchange()

        order: Order = exchange
        self._queue.resize(queue_size)
        if carry:  # it must not wait behind items that the old sink never takes
            self._at_once.append(order)
            order = self._hurry
        self._queue.put_beyond(order)

    @property
    def camera_states(self) -> list[Event]:
        """The last state of each camera."""
        return list(self._states.values())

    def learn(self, states: Sequence[Event]) -> None:
        """Take over states that were told before this sink came; call it before `run`."""
        for event in states:
            self.notice(event)

    def wait_for_room(self, timeout_s: float) -> bool:
        """Wait until `put` would not drop, at most `timeout_s` seconds; tell whether it would not.

        Nobody waits for a sink that keeps no results.
        """
        return not self._keeps or self._queue.wait_for_room(timeout_s)

    def close(self) -> None:
        """Take no more; `run` ends when what is queued has been written, or could not be."""
        self._closing = True
        self._queue.close()

    def give_up(self) -> None:
        """Count as lost what the sink, in which the thread hangs, is not known to have; drop the queue."""
        for queued in [*self._unflushed, *self._queue.discard()]:
            if isinstance(queued, _Queued):
                self._lost(queued, "stopped")

    def run(self) -> None:
        """Write until `close`, then close the sink. Flushes whenever it has caught up."""
        self._sink.start()
        while (queued := self._next()) is not None:
            if isinstance(queued, _Queued):
                self._write(queued)
            else:
                queued()
                if self._unflushed and not len(self._queue):
                    self._flush()  # the items before it waited for the queue to be empty
        self._flush(last=True)
        self.close_sink()
        for queued in [*self._unflushed, *self._queue.discard()]:
            if isinstance(queued, _Queued):
                self._lost(queued, "write failed")

    def _next(self) -> "_Queued | Order | None":
        """The next item that the sink can take, or what is to be done before it; None at the end."""
        while not self._sink.wait_for_room(_ROOM_LOOK_S):
            self._hurry()
            if not self._flush() and self._closing:
                return None
        while self._waits_for_disk() and not self._queue.wait_for_item(_RETRY_S):
            if self._reopens:
                self._reopen()
            self._flush()
        return self._queue.get()

    def _waits_for_disk(self) -> bool:
        """Whether there is something to try again although nothing new comes, as while the camera is lost."""
        return self._failing and bool(self._unflushed or self._reopens)

    def _hurry(self) -> None:
        while self._at_once:
            self._at_once.popleft()()

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
        """Where the new file cannot be opened, that is tried again before each item."""
        self._reopen_waits = False
        self._reopens = True
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
        finally:
            self._lose_refused()
        if not self._reopens:
            self._works()
        for item, ack in self._unflushed:
            self._stored += isinstance(item, Result)
            ack.complete(stored=True)
        self._unflushed.clear()
        if not last:
            self._exchange()
        return True

    def _lose_refused(self) -> None:
        refused = {id(item) for item in self._sink.refused}
        lost = [queued for queued in self._unflushed if id(queued.item) in refused]
        self._unflushed = [queued for queued in self._unflushed if id(queued.item) not in refused]
        for queued in lost:
            self._lost(queued, REFUSED)

    def _exchange(self) -> None:
        """Go on with the sink that was asked for, if one was."""
        if self._replacement is None:
            return
        make, self._replacement, self._reopens = self._replacement, None, False
        self.close_sink()
        self._sink = make()
        for event in self.camera_states:
            self._sink.notice(event)
        self._sink.start()
        carried, self._unflushed = self._unflushed, []
        for queued in carried:
            self._write(queued)

    def _works(self) -> None:
        if self._failing:
            _log.info("sink works again", sink=self.name, lost=self._lost_since)
        self._failing, self._lost_since = False, 0

    def _fails(self, error: OSError | InUseError) -> None:
        """Log why a sink fails, once for each reason in a row."""
        if not self._failing or self._last_error != str(error):
            _log.error("sink fails", sink=self.name, error=str(error))
        self._failing = True
        self._last_error, self._last_error_s = str(error), time.monotonic()

    def _lost(self, queued: "_Queued", reason: str) -> None:
        self._lost_since += 1
        (self._on_event_drop if isinstance(queued.item, Event) else self._on_drop)(reason)
        queued.ack.complete(stored=False, for_good=reason == REFUSED)


class _Queued(NamedTuple):
    """What is on its way to a sink, and the acknowledgement that it is there."""

    item: Result | Event
    ack: DeliveryAck
