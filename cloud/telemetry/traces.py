"""Spans of the calls whose callers record a trace, made from their timings, sent by a thread of their own."""

import os
import time
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter

from spillover.cloud.telemetry.call_thread import CallThread, TimedCall
from spillover.cloud.telemetry.calls import FinishedCall
from spillover.common.log import Throttled
from spillover.common.traces import Collector, Span, TraceContext

_WAITING = 1024
_AT_ONCE = 64
_STAGES = ("decode", "queue", "infer")


class Traces:
    """Sends spans to `collector`; `add` never blocks. A call that finds too many before it is counted."""

    def __init__(self, registry: CollectorRegistry, collector: Collector) -> None:
        self._collector = collector
        self._dropped = Counter(
            "spillover_traces_dropped",
            "Calls whose spans were not sent: the collector is too slow, or takes none.",
            ("reason",),
            registry=registry,
        )
        for reason in ("queue full", "not sent"):
            self._dropped.labels(reason)
        self._log = Throttled("traces")
        self._thread = CallThread("traces", _WAITING, self._send, _AT_ONCE)

    def add(self, call: FinishedCall) -> None:
        """Have the spans of a call sent, if its caller records them."""
        if call.trace is None or not call.trace.is_sampled:
            return
        if not self._thread.put(call):
            self._dropped.labels("queue full").inc()

    def stop(self, deadline_s: float) -> bool:
        """Send what waits, by `deadline_s` in `time.monotonic()` seconds; False when it hangs."""
        now_s = time.monotonic()
        ended = self._thread.ended_by(now_s + (deadline_s - now_s) / 2)
        self._collector.close()  # what is still to be sent fails at once
        return ended or self._thread.ended_by(deadline_s)

    def _send(self, calls: Sequence[TimedCall]) -> None:
        try:
            self._collector.send([span for ended in calls for span in _spans(*ended)])
        except OSError as error:
            self._dropped.labels("not sent").inc(len(calls))
            self._log.warning("spans are lost", cause="collector", error=str(error))


def _spans(ended_unix_s: float, call: FinishedCall) -> list[Span]:
    """The call, below its caller's span, and its stages; the answer of a frame sent twice has the first's."""
    if call.trace is None:
        return []
    at_s = ended_unix_s - call.seconds
    whole = _child(call.trace)
    about = {"rpc.system": "grpc", "rpc.method": call.method, "spillover.status": call.status.name}
    spans = [Span(call.method, whole, at_s, ended_unix_s, call.trace.span_id, "SERVER", about)]
    for stage in _STAGES if call.timings else ():
        seconds = float(getattr(call.timings, f"{stage}_s"))
        spans.append(Span(stage, _child(whole), at_s, at_s + seconds, whole.span_id))
        at_s += seconds
    return spans


def _child(parent: TraceContext) -> TraceContext:
    return parent._replace(span_id=int.from_bytes(os.urandom(8), "big") or 1)
