"""What a finished call leaves behind: figures, a line in the access log, a refusal in the audit trail.

The call wrapper makes one `FinishedCall` for each call and hands it to `Calls.finished`.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import grpc
import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from spillover.cloud.security.audit import Actor, Refusals
from spillover.cloud.security.roles import METRICS_PAGE, NEEDED
from spillover.cloud.telemetry.busiest import BusiestCallers
from spillover.cloud.telemetry.histograms import LoopHistogram
from spillover.common.errors import Cause
from spillover.common.log import printable
from spillover.common.security.tokens import Caller
from spillover.common.traces import TraceContext
from spillover.common.wire.conversion import ServerTimings

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
    payload: str = ""
    """What a frame came as, by the name of the message's field; empty where none came."""
    trace: TraceContext | None = None
    """The caller's span, if it has told of one."""
    timings: ServerTimings | None = None
    """Where the time of a frame went."""


_Label = TypeVar("_Label", bound=str)


class Calls(Collector):
    """Counts calls. `told` hear of each: what writes the access log, what sends traces.

    Everything but `collect` belongs to the event loop, so plain numbers do.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        refusals: Refusals,
        *told: Callable[[FinishedCall], None],
    ) -> None:
        self._refusals = refusals
        self._told = told
        self._busiest = BusiestCallers()
        text = "Seconds from a call's headers to its status, by method and gRPC status."
        self._durations = LoopHistogram(
            "spillover_call_duration_seconds", text, ("method", "status"), _SECONDS, registry
        )
        # All there from the start: a series that appears late hides its first increase.
        self._received = dict.fromkeys(_METHODS, 0)
        self._sent = dict.fromkeys(_METHODS, 0)
        self._refused = dict.fromkeys(Cause, 0)
        registry.register(self)
        registry.register(self._busiest)

    def finished(self, call: FinishedCall) -> None:
        """A call has its status."""
        method = call.method if call.method in _METHODS else UNKNOWN
        self._durations.labels(method, call.status.name).observe(call.seconds)
        self._received[method] += call.received_bytes
        self._sent[method] += call.sent_bytes
        self._busiest.add(_shown(call), call.received_bytes + call.sent_bytes)
        if call.cause is not None:
            by = Actor(call.caller.name, call.caller.role, call.peer)
            self.refused(call.cause, by, method, call.because)
        for tell in self._told:
            tell(call)

    def refused(self, cause: Cause, by: Actor, method: str, because: str) -> None:
        """Something was refused to somebody."""
        self._refused[cause] += 1
        if cause in _BY_IDENTITY:
            self._refusals.add(cause, by, method, because)

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of this moment, on any thread."""
        text = "Bytes of messages that callers have sent, by method."
        yield _counter("spillover_call_received_bytes", text, "method", self._received)
        text = "Bytes of messages that callers were sent, by method."
        yield _counter("spillover_call_sent_bytes", text, "method", self._sent)
        yield _counter("spillover_refused_calls", "Calls refused, by cause.", "cause", self._refused)


def _counter(name: str, text: str, label: str, counts: Mapping[_Label, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=(label,))
    for value, count in sorted(counts.items()):
        family.add_metric((value,), count)
    return family


def _shown(call: FinishedCall) -> str:
    """The proven name; else the address without its port: it has a `:`, unlike the names given out here."""
    return printable(call.caller.name or call.peer.rpartition(":")[0], _MAX_CALLER)
