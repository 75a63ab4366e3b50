"""What a finished call leaves behind: figures, a line in the access log, a refusal in the audit trail.

The call wrapper makes one `FinishedCall` for each call and hands it to `Calls.finished`.
"""

from collections.abc import Callable, Iterable

import grpc
import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from spillover.cloud.security.audit import Actor, Refusals
from spillover.cloud.security.roles import METRICS_PAGE, NEEDED, Caller
from spillover.cloud.telemetry.busiest import BusiestCallers
from spillover.common.errors import Cause, SpilloverError
from spillover.common.log import printable

UNKNOWN = "unknown"
"""The label of every method that does not exist: strangers can invent any number."""
_NAMES = {path: path.rpartition("/")[2] for path in NEEDED if path != METRICS_PAGE}
STREAMING = ("ModelStreamInfer", "ServerReflectionInfo", "Watch")
"""Methods whose calls last as long as the caller wants."""

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_BY_IDENTITY = (Cause.UNAUTHENTICATED, Cause.FORBIDDEN)
_MAX_CALLER = 64
ANYBODY = Caller("", "")
"""Whom a call comes from before, or without, any look at who it is."""


def method_label(path: str) -> str:
    """The name of a method, such as `Infer` for `/spillover.v1.Spillover/Infer`; one of a closed set."""
    return _NAMES.get(path, UNKNOWN)


class FinishedCall(msgspec.Struct, frozen=True):
    """One call, from its headers to its status."""

    method: str
    """As `method_label` gives it."""
    status: grpc.StatusCode
    seconds: float
    peer: str
    """The caller's address, as gRPC writes it."""
    caller: Caller = ANYBODY
    """Who it has proven to be; without a name, nobody."""
    received_bytes: int = 0
    """Of its messages, uncompressed and without their frames."""
    sent_bytes: int = 0
    error: SpilloverError | None = None
    """What it was ended by, if by us."""


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
        methods = sorted({*_NAMES.values(), UNKNOWN})
        text = "Bytes of messages that callers have sent, by method."
        self._received = _by(registry, "spillover_call_received_bytes", text, "method", methods)
        text = "Bytes of messages that callers were sent, by method."
        self._sent = _by(registry, "spillover_call_sent_bytes", text, "method", methods)
        text = "Calls refused, by cause."
        self._refused = _by(registry, "spillover_refused_calls", text, "cause", list(Cause))
        open_streams = Gauge(
            "spillover_open_streams",
            "Calls of streaming methods that have begun and not ended.",
            ["method"],
            registry=registry,
        )
        self._open = {method: open_streams.labels(method) for method in STREAMING}

    def began(self, method: str) -> None:
        """A call's headers have come. Each needs its `finished`."""
        if method in self._open:
            self._open[method].inc()

    def finished(self, call: FinishedCall) -> None:
        """A call has its status."""
        key = (call.method, call.status)
        duration = self._durations.get(key)
        if duration is None:
            duration = self._durations[key] = self._duration.labels(call.method, call.status.name)
        duration.observe(call.seconds)
        if call.received_bytes:
            self._received[call.method].inc(call.received_bytes)
        if call.sent_bytes:
            self._sent[call.method].inc(call.sent_bytes)
        if call.method in self._open:
            self._open[call.method].dec()
        self._busiest.add(_shown(call), call.received_bytes + call.sent_bytes)
        if call.error is not None and call.error.cause is not None:
            self.refused(call.error.cause, _actor(call), call.method, str(call.error))
        if self._access:
            self._access(call)

    def refused(self, cause: Cause, by: Actor, method: str, because: str) -> None:
        """Something was refused to somebody, a request inside of a stream for example."""
        self._refused[cause].inc()
        if cause in _BY_IDENTITY:
            self._refusals.add(cause, by, method, because)


def _by(
    registry: CollectorRegistry, name: str, text: str, label: str, values: Iterable[str]
) -> dict[str, Counter]:
    """A counter's children, all there from the start: a series that appears late hides its first increase."""
    counter = Counter(name, text, [label], registry=registry)
    return {value: counter.labels(value) for value in values}


def _actor(call: FinishedCall) -> Actor:
    return Actor(call.caller.name, call.caller.role, call.peer)


def _shown(call: FinishedCall) -> str:
    """The proven name; else the address without its port: it has a `:`, unlike the names given out here."""
    return printable(call.caller.name or call.peer.rpartition(":")[0], _MAX_CALLER)
