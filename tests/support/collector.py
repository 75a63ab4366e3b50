"""An OpenTelemetry collector that keeps the spans it gets, over OTLP/gRPC on loopback."""

from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as otlp
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as otlp_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class SpanCollector(otlp_grpc.TraceServiceServicer):
    """Its `endpoint`, and spans by the service that sent them."""

    def __init__(self) -> None:
        self.endpoint = ""
        self.spans: dict[str, list[Span]] = {}

    def Export(  # noqa: N802
        self, request: otlp.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> otlp.ExportTraceServiceResponse:
        """Keep them."""
        for one in request.resource_spans:
            about = {pair.key: pair.value.string_value for pair in one.resource.attributes}
            spans = [span for scope in one.scope_spans for span in scope.spans]
            self.spans.setdefault(about["service.name"], []).extend(spans)
        return otlp.ExportTraceServiceResponse()


@contextmanager
def span_collector() -> Iterator[SpanCollector]:
    """Serve on loopback."""
    collector, server = SpanCollector(), grpc.server(futures.ThreadPoolExecutor(2))
    otlp_grpc.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]
    collector.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield collector
    finally:
        server.stop(None).wait(10)
