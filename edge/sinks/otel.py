"""Sends what became of frames as traces to an OpenTelemetry collector, made afterwards from their timings.

    frame --+-- capture, queue, preprocess, infer, decode, encode
            +-- call --+-- server decode, server queue, server infer     (and the server's own, on its clock)

A late answer has a span of its own in the trace, `late answer` in place of `frame`, which links to it.
"""

import threading
import time
from collections import deque
from collections.abc import Callable

from spillover.common.traces import CALL, Collector, Span, part_of
from spillover.common.types import AnsweredBy, Result
from spillover.edge.config import OtelConfig
from spillover.edge.results.delivery import Event

WINDOW = 64
"""So many frames wait in the sink; what follows waits in its queue, where the oldest make room."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
"""Between attempts: doubled after each."""
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
    server = [(stage, float(getattr(timings, f"server_{stage}_s"))) for stage in _THERE]
    call_s = timings.network_s + sum(seconds for _, seconds in server)
    call_at_s = max(0.0, timings.total_s - call_s)
    name = _LATE if result.revision else _FRAME
    whole = part_of(result.frame_id, name, share)

    def span(stage: str, at_s: float, seconds: float, parent: int = whole.span_id) -> Span:
        context = part_of(result.frame_id, CALL if stage == CALL else f"{name} {stage}", share)
        return Span(stage, context, start_s + at_s, start_s + at_s + seconds, parent)

    made, at_s = [], 0.0
    for stage in () if result.revision else _HERE:
        seconds = float(getattr(timings, f"{stage}_s"))
        made.append(span(stage, at_s, seconds))
        at_s += seconds
    made.append(span("encode", call_at_s - timings.encode_s if call_s else at_s, timings.encode_s))
    call = span(CALL, call_at_s, call_s)
    at_s = call_at_s + timings.network_s / 2
    for stage, seconds in server:
        made.append(span(f"server {stage}", at_s, seconds, call.context.span_id))
        at_s += seconds
    root = Span(
        name,
        whole,
        start_s,
        start_s + timings.total_s,
        attributes=_attributes(result, call_at_s if call_s else 0.0),
        links=(part_of(result.frame_id, _FRAME, share),) if result.revision else (),
    )
    calls = [Span(CALL, call.context, call.start_s, call.end_s, whole.span_id, "CLIENT")] if call_s else []
    return [root, *calls, *(one for one in made if one.end_s > one.start_s)]


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
    """One trace a frame. `clock` gives monotonic seconds.

    Raises:
        ConfigError: the extra `otel` is not installed.
    """

    def __init__(
        self, config: OtelConfig, device_id: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._config = config
        self._clock = clock
        self._collector = Collector(config.endpoint, "spillover-edge", device_id, "sinks: kind otel")
        self._held: deque[list[Span]] = deque()
        self._closing = threading.Event()
        self._problem, self._pause_s, self._next_s = "", FIRST_PAUSE_S, clock()

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
        """Send what is held. Raises OSError: the collector is away, or it is too early to try again."""
        if not self._held:
            return
        if self._clock() < self._next_s:
            raise OSError(self._problem)
        try:
            self._collector.send([span for spans in self._held for span in spans])
        except OSError as error:
            self._problem, self._next_s = str(error), self._clock() + self._pause_s
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
            raise
        self._held.clear()
        self._pause_s = FIRST_PAUSE_S

    def reopen(self) -> None:
        """A collector has no file."""

    def close(self) -> None:
        """End the connection."""
        self._closing.set()
        self._collector.close()
