"""What the server counts, for Prometheus. One object with its own registry; nothing global."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import grpc
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from spillover.cloud.telemetry.calls import CallEnd
from spillover.common.types import ModelId

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The Prometheus metrics of one server, in a registry of their own."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self.registry = registry
        self.requests = Counter(
            "spillover_requests",
            "Calls answered, by method and gRPC status",
            ["method", "status"],
            registry=registry,
        )
        self.rejected = Counter(
            "spillover_rejected",
            "Calls refused, by class of the error",
            ["reason"],
            registry=registry,
        )
        self.repeated = Counter(
            "spillover_repeated", "Repeated requests, answered from memory", registry=registry
        )
        self.in_flight = Gauge(
            "spillover_in_flight", "Calls received and not yet answered", registry=registry
        )
        self.loaded_models = Gauge(
            "spillover_loaded_models", "Versions of models in memory", registry=registry
        )
        self._answered: dict[tuple[str, grpc.StatusCode], Counter] = {}
        self._decode = _seconds("decode", "Seconds from payload to input tensor", registry)
        self._queue = _seconds("queue", "Seconds of waiting for the network", registry)
        self._infer = _seconds("infer", "Seconds of one run of the network", registry)
        self._rows = Histogram(
            "spillover_batch_rows",
            "Rows in one run of the network",
            ["model"],
            buckets=_ROWS,
            registry=registry,
        )

    def call_ended(self, end: CallEnd) -> None:
        """Count one call; on every call's path, so the children of the counter are looked up once."""
        key = (end.method, end.status)
        child = self._answered.get(key)
        if child is None:
            child = self._answered[key] = self.requests.labels(end.method, end.status.name)
        child.inc()
        if end.refusal:
            self.rejected.labels(end.refusal).inc()

    def watch_connections(self, by_standing: Callable[[], Mapping[str, float]]) -> Counter:
        """How many connections are open, by what they have shown; returns what counts the closed ones."""
        gauge = Gauge(
            "spillover_connections",
            "Connections that are open, by what they have shown: stranger, known by a call, proven",
            ["standing"],
            registry=self.registry,
        )
        for standing in by_standing():
            gauge.labels(standing).set_function(partial(_one_of, by_standing, standing))
        return Counter(
            "spillover_connections_closed",
            "Connections that were closed to keep room for others",
            ["cause"],
            registry=self.registry,
        )

    def of_model(self, model_id: ModelId) -> "ModelMetrics":
        """The metrics of one model; versions of a model count together."""
        name = model_id.name
        return ModelMetrics(
            self._decode.labels(name),
            self._queue.labels(name),
            self._infer.labels(name),
            self._rows.labels(name),
        )


class ModelMetrics:
    """The histograms of one model: decoding, queue and inference times, and rows per batch."""

    def __init__(self, decode: Histogram, queue: Histogram, infer: Histogram, rows: Histogram) -> None:
        self.decode = decode
        self._queue = queue
        self._infer = infer
        self._rows = rows

    def batch_done(self, rows: int, infer_s: float, queue_s: Sequence[float]) -> None:
        """Note one executed batch: its rows, its run time and each request's wait in seconds."""
        self._rows.observe(rows)
        self._infer.observe(infer_s)
        for wait_s in queue_s:
            self._queue.observe(wait_s)


def _one_of(values: Callable[[], Mapping[str, float]], key: str) -> float:
    return values()[key]


def _seconds(stage: str, text: str, registry: CollectorRegistry) -> Histogram:
    return Histogram(f"spillover_{stage}_seconds", text, ["model"], buckets=_SECONDS, registry=registry)
