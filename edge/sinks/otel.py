"""Sends what became of frames as traces to an OpenTelemetry collector, made afterwards from their timings.

    frame --+-- capture, queue, preprocess, infer, decode, encode
            +-- call --+-- server decode, server queue, server infer     (and the server's own, on its clock)

A late answer has a span of its own in the trace, `late answer` in place of `frame`, which links to it.
"""

import threading
from collections.abc import Iterable

from spillover.common.traces import CALL, Collector, Span, TraceContext, part_of
from spillover.common.types import AnsweredBy, Result
from spillover.edge.config import OtelConfig
from spillover.edge.results.delivery import Event

WINDOW = 64
"""So many frames wait in the sink; what follows waits in its queue, where the oldest make room."""
_FRAME, _LATE = "frame", "late answer"
_HERE = ("capture", "queue", "preprocess", "infer", "decode")
_THERE = ("decode", "queue", "infer")


def takes(config: OtelConfig, item: Result | Event) -> bool:
    """Whether an item is to be traced."""
    if isinstance(item, Event):
        return False
    is_wanted = {
        "degraded": item.decision.degraded or item.answered_by is AnsweredBy.EDGE_DEGRADED,
        "revision": item.revision > 0,
        "audit": item.decision.audit is not None,
    }
    return any(is_wanted[kind] for kind in config.always) or (
        part_of(item.frame_id, _FRAME, config.share).is_sampled
    )


def spans_of(result: Result, share: float) -> list[Span]:
    """The spans of one result, the whole first; stages that did not happen have none.

    Stages on this device follow one another from the capture on; the call ends with the answer. The server's
    stages lie in the middle of the call, since how much of the rest is the way there is not known.
    """
    timings, start_s = result.timings, result.captured_unix_s
    server = [(f"server {stage}", float(getattr(timings, f"server_{stage}_s"))) for stage in _THERE]
    call_s = timings.network_s + sum(seconds for _, seconds in server)
    call_at_s = max(0.0, timings.total_s - call_s)
    name = _LATE if result.revision else _FRAME
    whole, call = (part_of(result.frame_id, part, share) for part in (name, CALL))
    made: list[Span] = []

    def follow(at_s: float, parent: TraceContext, stages: Iterable[tuple[str, float]]) -> float:
        """Add spans one after the other; gives the end of the last."""
        for stage, seconds in stages:
            if seconds > 0:
                own = part_of(result.frame_id, f"{name} {stage}", share)
                made.append(Span(stage, own, start_s + at_s, start_s + at_s + seconds, parent.span_id))
            at_s += seconds
        return at_s

    here = () if result.revision else _HERE  # the first result has told of them
    at_s = follow(0.0, whole, [(stage, float(getattr(timings, f"{stage}_s"))) for stage in here])
    follow(call_at_s - timings.encode_s if call_s else at_s, whole, [("encode", timings.encode_s)])
    if call_s:
        ends_s = start_s + call_at_s + call_s
        made.append(Span(CALL, call, start_s + call_at_s, ends_s, whole.span_id, "CLIENT"))
        follow(call_at_s + timings.network_s / 2, call, server)
    about = _attributes(result, call_at_s if call_s else 0.0)
    links = (part_of(result.frame_id, _FRAME, share),) if result.revision else ()
    return [Span(name, whole, start_s, start_s + timings.total_s, attributes=about, links=links), *made]


def _attributes(result: Result, call_at_s: float) -> dict[str, str | int | float | bool]:
    decision = result.decision
    known: dict[str, str | int | float | bool] = {
        "frame_id": result.frame_id,
        "camera_id": result.camera_id,
        "model": str(result.model),
        "answered_by": result.answered_by.value,
        "action": decision.action.value,
        "reason": decision.reason,
        "payload": decision.payload,
        "payload_bytes": result.payload_bytes,
        "degraded": decision.degraded,
        "error": result.error,
        "waited_s": call_at_s if result.revision else 0.0,
    }
    return {f"spillover.{key}": value for key, value in known.items() if value}


class OtelSink:
    """One trace a frame.

    Raises:
        ConfigError: the extra `otel` is not installed.
    """

    refused = ()
    """What a collector does not take is sent again."""

    def __init__(self, config: OtelConfig, device_id: str) -> None:
        self._config = config
        self._collector = Collector(config.endpoint, "spillover-edge", device_id, "sinks: kind otel")
        self._held: list[list[Span]] = []
        self._closing = threading.Event()

    def start(self) -> None:
        """Nothing runs in the background."""

    def notice(self, event: Event) -> None:
        """Events are no part of a trace."""

    def wait_for_room(self, timeout_s: float) -> bool:
        """Wait a moment while too much is held."""
        if len(self._held) >= WINDOW:
            self._closing.wait(timeout_s)
        return len(self._held) < WINDOW

    def write(self, result: Result) -> None:
        """Hold the spans of a result."""
        self._held.append(spans_of(result, self._config.share))

    def tell(self, event: Event) -> None:
        """Events are no part of a trace."""

    def flush(self) -> None:
        """Send what is held. Raises OSError, after `SEND_TIMEOUT_S` at most: it is away."""
        if self._held:
            self._collector.send([span for spans in self._held for span in spans])
            self._held.clear()

    def reopen(self) -> None:
        """A collector has no file."""

    def close(self) -> None:
        """End the connection."""
        self._closing.set()
        self._collector.close()
