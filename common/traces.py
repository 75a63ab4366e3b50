"""Traces of frames: ids that follow from a frame's id, their header on the wire, and the way to a collector.

The header is `traceparent` of W3C Trace Context (https://www.w3.org/TR/trace-context), written and read here:
two hashes a call, and no library. Spans are made from times that are known afterwards, so that nothing is
measured for them; only `Collector` needs the extra `otel`.
"""

import hashlib
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from spillover.common.extras import missing_extra

TRACE_KEY = "traceparent"
CALL = "call"
"""The part of a frame's trace that is the parent of what its server does."""
SEND_TIMEOUT_S = 5.0
"""How long a collector may take for what it is sent, repeats included."""
_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_DRAWN_BITS = 56
"""The last bits of a trace's id are the random ones (W3C Trace Context, level 2)."""
_EXPORTER = "opentelemetry.exporter.otlp.proto.grpc.exporter"


class TraceContext(NamedTuple):
    """A span, as others refer to it: its trace's id (128 bits), its own (64), and whether it is recorded."""

    trace_id: int
    span_id: int
    is_sampled: bool

    @property
    def trace_hex(self) -> str:
        """The trace's id as logs and trace viewers write it."""
        return f"{self.trace_id:032x}"

    def header(self) -> str:
        """The value of `traceparent`."""
        return f"00-{self.trace_hex}-{self.span_id:016x}-{self.is_sampled:02x}"


def part_of(frame_id: str, part: str, share: float) -> TraceContext:
    """A part of a frame's trace; of all frames `share` are recorded, the same ones everywhere."""
    trace_id = int.from_bytes(_digest(frame_id)[:16], "big")
    span_id = int.from_bytes(_digest(f"{frame_id} {part}")[:8], "big")
    drawn = (trace_id & ((1 << _DRAWN_BITS) - 1)) < share * (1 << _DRAWN_BITS)
    return TraceContext(trace_id, span_id, drawn)


def read_trace(metadata: Iterable[tuple[str, str | bytes]]) -> TraceContext | None:
    """The caller's span; None where the header is missing, repeated, or not what the standard says."""
    headers = [str(value) for key, value in metadata if key == TRACE_KEY]
    found = _FORM.fullmatch(headers[0]) if len(headers) == 1 else None
    if found is None:
        return None
    version, trace_id, span_id, flags, rest = found.groups()
    if version == "ff" or (version == "00" and rest) or not int(trace_id, 16) or not int(span_id, 16):
        return None
    return TraceContext(int(trace_id, 16), int(span_id, 16), bool(int(flags, 16) & 1))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


@dataclass(frozen=True, slots=True)
class Span:
    """One stage of a frame; `start_s` and `end_s` are Unix times, `parent` the id of another one."""

    name: str
    context: TraceContext
    start_s: float
    end_s: float
    parent: int | None = None
    kind: Literal["INTERNAL", "CLIENT", "SERVER"] = "INTERNAL"
    attributes: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    links: tuple[TraceContext, ...] = ()


class Collector:
    """Sends spans by OTLP/gRPC to `endpoint`, in the name of `service`; one thread at a time.

    The variables OTEL_EXPORTER_OTLP_HEADERS, _CERTIFICATE, _CLIENT_KEY and _CLIENT_CERTIFICATE hold as in
    https://opentelemetry.io/docs/specs/otel/protocol/exporter.

    Raises:
        ConfigError: the extra `otel` is not installed, and `key` needs it.
    """

    def __init__(self, endpoint: str, service: str, instance: str, key: str) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
        except ModuleNotFoundError as error:
            raise missing_extra(error, "otel", key) from error
        about = {"service.name": service} | ({"service.instance.id": instance} if instance else {})
        self._resource = Resource.create(about)
        self._exporter = OTLPSpanExporter(endpoint, timeout=SEND_TIMEOUT_S)

    def send(self, spans: Sequence[Span]) -> None:
        """Send the spans, within `SEND_TIMEOUT_S`. Raises OSError: the collector does not take them."""
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.sdk.trace.export import SpanExportResult
        from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags

        def context(trace_id: int, span_id: int) -> SpanContext:
            return SpanContext(trace_id, span_id, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))

        made = [
            ReadableSpan(
                span.name,
                context(span.context.trace_id, span.context.span_id),
                None if span.parent is None else context(span.context.trace_id, span.parent),
                self._resource,
                span.attributes,
                links=[Link(context(link.trace_id, link.span_id)) for link in span.links],
                kind=SpanKind[span.kind],
                start_time=round(span.start_s * 1e9),
                end_time=round(span.end_s * 1e9),
            )
            for span in spans
        ]
        log, reason = logging.getLogger(_EXPORTER), _Reason()
        log.filters.insert(0, reason)  # before the one that hides what is said twice
        try:
            result = self._exporter.export(made)
        finally:
            log.removeFilter(reason)
        if result is not SpanExportResult.SUCCESS:
            raise OSError(reason.text or "the collector takes no spans")

    def close(self) -> None:
        """End the connection, and a `send` that waits to try again."""
        self._exporter.shutdown()


class _Reason(logging.Filter):
    """Keeps what the exporter logs, since it says why in no other way; the sender logs it once for all."""

    text = ""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep the last line, and let none through."""
        self.text = record.getMessage()
        return False
