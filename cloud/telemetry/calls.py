"""What a finished call leaves behind: figures, a line in the access log, a refusal in the audit trail.

The call wrapper makes one `FinishedCall` for each call and hands it to `Calls.finished`.
"""

from collections.abc import Callable, Iterable

import grpc
import msgspec
from prometheus_client import CollectorRegistry, Counter, Histogram

from spillover.cloud.security.audit import Actor, Refusals
from spillover.cloud.security.roles import METRICS_PAGE, NEEDED, Caller
from spillover.cloud.telemetry.busiest import BusiestCallers
from spillover.common.errors import Cause
from spillover.common.log import printable

UNKNOWN = "unknown"
"""The label of every method that does not exist: strangers can invent any number."""
STREAMING = ("ModelStreamInfer", "ServerReflectionInfo", "Watch")
"""Methods whose calls last as long as the caller wants."""

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_BY_IDENTITY = (Cause.UNAUTHENTICATED, Cause.FORBIDDEN)
_MAX_CALLER = 64
_METHODS = frozenset({path.rpartition("/")[2] for path in NEEDED if path != METRICS_PAGE} | {UNKNOWN})


class FinishedCall(msgspec.Struct, frozen=True):
    """One call, from its headers to its status, or one message of a stream until its answer."""

    method: str
    """Without its service; `unknown` for one that does not exist."""
    status: grpc.StatusCode
    seconds: float
    peer: str
    """The caller's address, as gRPC writes it."""
    caller: Caller
    """Who it has proven to be; without a name, nobody."""
    received_bytes: int = 0
    """Of its messages, uncompressed and without their frames."""
    sent_bytes: int = 0
    cause: Cause | None = None
    """Why it was refused, if it was, and in words:"""
    because: str = ""


class Calls:
    """Counts calls; the children of the metrics are looked up once, as a lookup costs more than a count.

    `access` writes a call into the access log, if there is one.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        refusals: Refusals,
        access: Callable[[FinishedCall], None] | None = None,
    ) -> None:
        self._refusals = refusals
        self._access = access
        self._busiest = BusiestCallers()
        registry.register(self._busiest)
        self._duration = Histogram(
            "spillover_call_duration_seconds",
            "Seconds from a call's headers to its status, by method and gRPC status.",
            ["method", "status"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._durations: dict[tuple[str, grpc.StatusCode], Histogram] = {}
        text = "Bytes of messages that callers have sent, by method."
        self._received = _by(registry, "spillover_call_received_bytes", text, "method", _METHODS)
        text = "Bytes of messages that callers were sent, by method."
        self._sent = _by(registry, "spillover_call_sent_bytes", text, "method", _METHODS)
        text = "Calls refused, by cause."
        self._refused = _by(registry, "spillover_refused_calls", text, "cause", Cause)

    def finished(self, call: FinishedCall) -> None:
        """A call has its status."""
        method = call.method if call.method in _METHODS else UNKNOWN
        key = (method, call.status)
        duration = self._durations.get(key)
        if duration is None:
            duration = self._durations[key] = self._duration.labels(method, call.status.name)
        duration.observe(call.seconds)
        if call.received_bytes:
            self._received[method].inc(call.received_bytes)
        if call.sent_bytes:
            self._sent[method].inc(call.sent_bytes)
        self._busiest.add(_shown(call), call.received_bytes + call.sent_bytes)
        if call.cause is not None:
            by = Actor(call.caller.name, call.caller.role, call.peer)
            self.refused(call.cause, by, method, call.because)
        if self._access:
            self._access(call)

    def refused(self, cause: Cause, by: Actor, method: str, because: str) -> None:
        """Something was refused to somebody."""
        self._refused[cause].inc()
        if cause in _BY_IDENTITY:
            self._refusals.add(cause, by, method, because)


def _by(
    registry: CollectorRegistry, name: str, text: str, label: str, values: Iterable[str]
) -> dict[str, Counter]:
    """A counter's children, all there from the start: a series that appears late hides its first increase."""
    counter = Counter(name, text, [label], registry=registry)
    return {value: counter.labels(value) for value in sorted(values)}


def _shown(call: FinishedCall) -> str:
    """The proven name; else the address without its port: it has a `:`, unlike the names given out here."""
    return printable(call.caller.name or call.peer.rpartition(":")[0], _MAX_CALLER)
