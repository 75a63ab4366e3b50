"""All the sinks of a daemon, as one."""

from collections.abc import Sequence

from spillover.common.log import get_logger
from spillover.common.types import Result
from spillover.edge.results.delivery import DeliveryAck, Event
from spillover.edge.runtime.worker import OnEnd, Worker
from spillover.edge.sinks.outlet import Outlet

_log = get_logger("sink")


class Outlets:
    """Hands everything to every outlet and runs their threads. Only `wait_...` and `close` block."""

    def __init__(self, outlets: Sequence[Outlet], on_end: OnEnd) -> None:
        self._outlets = outlets
        self._writers = [Worker(f"sink-{i}", outlet.run, on_end) for i, outlet in enumerate(outlets)]

    def start(self) -> None:
        """Start the writing threads."""
        for writer in self._writers:
            writer.start()

    def discard(self) -> None:
        """Close the sinks of a daemon that never came to start."""
        for outlet in self._outlets:
            outlet.close()
            outlet.run()

    def put(self, item: Result | Event) -> DeliveryAck:
        """Queue a result or an event for every sink; the receipt tells when one of them has it."""
        ack = DeliveryAck(len(self._outlets))
        for outlet in self._outlets:
            outlet.put(item, ack)
        return ack

    def wait_for_room(self, timeout_s: float) -> None:
        """Wait until `put` would drop nothing, at most `timeout_s` seconds a sink."""
        for outlet in self._outlets:
            outlet.wait_for_room(timeout_s)

    @property
    def lost_everything(self) -> list[str]:
        """Names of the writers whose sink has not one of the results; to be asked when they are closed."""
        pairs = zip(self._writers, self._outlets, strict=True)
        return [writer.name for writer, outlet in pairs if outlet.lost_everything]

    def close(self, timeout_s: float) -> None:
        """Write what is queued, close the sinks; at most `timeout_s` seconds a sink."""
        for outlet in self._outlets:
            outlet.close()
        for writer in self._writers:
            if not writer.join(timeout_s):
                _log.warning("sink does not return; its results are lost", sink=writer.name)
