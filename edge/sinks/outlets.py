"""Runs each sink behind a bounded queue on a thread of its own, so that a slow sink delays nothing else."""

import threading
from collections.abc import Sequence

from spillover.common.log import get_logger
from spillover.common.types import Result
from spillover.edge.results.delivery import DeliveryAck, Event
from spillover.edge.runtime.parts import Ended, OnEnd, Worker
from spillover.edge.sinks.outlet import Outlet, OutletState

_log = get_logger("sink")


class Outlets:
    """All the sinks of a daemon: everything goes to each. Only `wait_for_room` and `stop` block."""

    def __init__(self, outlets: Sequence[Outlet], on_end: OnEnd) -> None:
        self._on_end = on_end
        self._lock = threading.Lock()
        """Held by `put`, so that an item goes to the sinks before a change or to those after it."""
        self._writers: dict[Outlet, Worker] = {outlet: self._writer(outlet) for outlet in outlets}
        self._leaving: list[tuple[Outlet, Worker]] = []
        self._stopped = False

    def start(self) -> None:
        """Start the writing threads."""
        for writer in self._writers.values():
            writer.start()

    def discard(self) -> None:
        """Close the sinks of a daemon that was never started."""
        for outlet in self._writers:
            outlet.close_sink()

    def put(self, item: Result | Event) -> DeliveryAck:
        """Queue a result or an event for every sink; the acknowledgement is of those that are to store it."""
        with self._lock:
            storing = [outlet for outlet in self._writers if outlet.stores(item)]
            ack = DeliveryAck(len(storing))
            for outlet in self._writers:
                outlet.put(item, ack if outlet in storing else DeliveryAck(1))
        return ack

    def notice(self, event: Event) -> None:
        """Tell a state to the sinks that keep states; the others write nothing."""
        with self._lock:
            for outlet in self._writers:
                outlet.notice(event)

    @property
    def current(self) -> list[Outlet]:
        """The outlets that items go to, in order."""
        return list(self._writers)

    def change(self, outlets: Sequence[Outlet]) -> bool:
        """Go on with `outlets`: new ones are started, those that are missing write what they were given.

        False: too late, the stop has begun; nothing is changed then.
        """
        with self._lock:
            if self._stopped:
                return False
            before = self._writers
            self._writers = {one: before.get(one) or self._writer(one) for one in outlets}
            added = {outlet: writer for outlet, writer in self._writers.items() if outlet not in before}
            leaving = [(outlet, writer) for outlet, writer in before.items() if outlet not in self._writers]
            self._leaving = [*((one, writer) for one, writer in self._leaving if writer.runs), *leaving]
            known = next(iter(before)).camera_states if before else []  # the same in each
            for outlet, writer in added.items():
                outlet.learn(known)
                writer.start()
            for outlet, _ in leaving:
                outlet.close()
        return True

    def wait_for_room(self, timeout_s: float) -> bool:
        """Wait until `put` would drop nothing, at most `timeout_s` seconds a sink; tell whether it is so."""
        has_room = [outlet.wait_for_room(timeout_s) for outlet in tuple(self._writers)]
        return all(has_room)

    def states(self) -> list[OutletState]:
        """Every sink now."""
        return [outlet.state() for outlet in self.current]

    @property
    def lost_everything(self) -> list[str]:
        """Names of the sinks that have not one of the results; to be asked after `stop`."""
        return [outlet.name for outlet in self._writers if outlet.lost_everything]

    def stop(self, deadline_s: float) -> bool:
        """Write what is queued and close the sinks, all at a time; whether all have ended by `deadline_s`."""
        with self._lock:
            self._stopped = True
            for outlet in self._writers:
                outlet.close()
            writers = [*self._writers.items(), *self._leaving]
        ended = [writer.ended_by(deadline_s) for _, writer in writers]
        for (outlet, _), has_ended in zip(writers, ended, strict=True):
            if not has_ended:
                outlet.give_up()
        return all(ended)

    def _writer(self, outlet: Outlet) -> Worker:
        def ended(how: Ended) -> None:
            with self._lock:
                is_needed = outlet in self._writers
            if is_needed:
                self._on_end(how)
            elif how.error is not None:
                _log.error("sink that was taken out failed", sink=outlet.name, error=str(how.error))

        return Worker(f"sink {outlet.name}", outlet.run, ended)
