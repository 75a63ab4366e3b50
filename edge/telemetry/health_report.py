"""Reports the device's health once a minute: to a bounded file, and to sinks that keep states."""

import threading
import time
from collections.abc import Callable

import msgspec

from spillover.common.errors import ConfigError
from spillover.edge.config.paths import HEALTH_FILE_BYTES
from spillover.edge.health.readings import HealthReport
from spillover.edge.results.delivery import DeliveryAck, Event, EventKind
from spillover.edge.runtime.parts import OnEnd, Worker
from spillover.edge.sinks.jsonl import JsonLinesSink
from spillover.edge.sinks.outlet import Outlet

PERIOD_S = 60.0
_QUEUE = 16


class HealthFile:
    """Reports as JSON lines, behind a queue and a thread of their own.

    Raises:
        ConfigError: the path can never be such a file, or another daemon writes to it.
    """

    def __init__(self, path: str, on_end: OnEnd) -> None:
        try:
            sink = JsonLinesSink(path, lambda _: b"", rotate_bytes=int(HEALTH_FILE_BYTES / 2))
        except ConfigError as error:
            raise type(error)(f"health.file: {str(error).removeprefix('sinks: ')}") from error
        self._outlet = Outlet("health.file", sink, _QUEUE, lambda _: None)
        self._writer = Worker("health file", self._outlet.run, on_end)

    def start(self) -> None:
        """Begin to write."""
        self._writer.start()

    def put(self, event: Event) -> None:
        """Queue a report; never blocks. Where the disk is away the newest are lost, and the log says it."""
        self._outlet.put(event, DeliveryAck(1))

    def stop(self, deadline_s: float) -> bool:
        """Write what is queued; whether that has ended by `deadline_s` (monotonic)."""
        self._outlet.close()
        return self._writer.ended_by(deadline_s)


class HealthReporter:
    """Reports once a minute, and at once after `now`. `tell` gets each report; it must not block.

    `report` may wait for a disk that does not answer.
    """

    def __init__(self, report: Callable[[], HealthReport], tell: Callable[[Event], None]) -> None:
        self._report = report
        self._tell = tell
        self._wake = threading.Event()
        self._stopping = False

    def run(self) -> None:
        """The body of the thread."""
        while not self._stopping:
            fields = msgspec.to_builtins(self._report())
            self._tell(Event(EventKind.HEALTH, time.time(), fields))
            self._wake.wait(PERIOD_S)
            self._wake.clear()  # here, so that a stop while a report is made ends the wait

    def now(self) -> None:
        """Report at once; any thread may ask."""
        self._wake.set()

    def stop(self) -> None:
        """End `run`."""
        self._stopping = True
        self._wake.set()
