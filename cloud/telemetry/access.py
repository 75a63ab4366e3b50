"""The access log: one JSON line for each finished call, written by a thread of its own."""

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial

import msgspec
from prometheus_client import CollectorRegistry, Counter

from spillover.cloud.telemetry.call_thread import CallThread, TimedCall
from spillover.cloud.telemetry.calls import FinishedCall
from spillover.common.log import printable

_WAITING = 4096
_MAX_TEXT = 100


class AccessLog:
    """Writes lines by `write`, by default to standard error, each by one call of it.

    A line that finds too many before it is dropped and counted.
    """

    def __init__(self, registry: CollectorRegistry, write: Callable[[bytes], object] | None = None) -> None:
        self._write = write or partial(os.write, 2)
        self._dropped = Counter(
            "spillover_access_lines_dropped",
            "Lines of the access log that were not written, as its reader is too slow.",
            registry=registry,
        )
        self._thread = CallThread("access-log", _WAITING, self._write_lines)

    def add(self, call: FinishedCall) -> None:
        """Have a line written. Never blocks."""
        if not self._thread.put(call):
            self._dropped.inc()

    def stop(self, deadline_s: float) -> bool:
        """Write what waits, by `deadline_s` in `time.monotonic()` seconds; False when it hangs."""
        return self._thread.ended_by(deadline_s)

    def _write_lines(self, calls: Sequence[TimedCall]) -> None:
        for unix_s, call in calls:
            try:
                self._write(_line(unix_s, call))
            except OSError:
                self._dropped.inc()  # a log without a reader must not end the server


def _line(unix_s: float, call: FinishedCall) -> bytes:
    line = {
        "time": datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds"),
        "component": "access",
        "caller": printable(call.caller.name, _MAX_TEXT),
        "role": printable(call.caller.role, _MAX_TEXT),
        "peer": printable(call.peer, _MAX_TEXT),
        "method": call.method,
        "payload": call.payload,
        "status": call.status.name,
        "cause": call.cause.value if call.cause else "",
        "seconds": round(call.seconds, 6),
        "received_bytes": call.received_bytes,
        "sent_bytes": call.sent_bytes,
        "trace_id": call.trace.trace_hex if call.trace else "",
    }
    return msgspec.json.encode(line) + b"\n"
