"""What the server counts, for Prometheus. One object with its own registry; nothing global."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from spillover.cloud.telemetry.histograms import LoopHistogram, Observations
from spillover.common.metrics import Registry, process_registry
from spillover.common.types import ModelId

PREFIX = "spillover_"
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The Prometheus metrics of one server, in a registry of their own; `Calls` adds those of calls.

    What is watched is asked for at each scrape, on the thread that answers it.
    """

    def __init__(self) -> None:
        self.registry = process_registry(PREFIX)
        self.repeated = Counter(
            f"{PREFIX}repeated", "Repeated requests, answered from memory.", registry=self.registry
        )
        self.in_flight = self._gauge("in_flight", "Calls received and not yet answered.")
        self.loaded_models = self._gauge("loaded_models", "Versions of models in memory.")
        self.decode_waiting = self._gauge("decode_waiting", "Pictures and features that wait to be decoded.")
        self.decode_skipped = Counter(
            f"{PREFIX}decode_skipped",
            "Decodings that never began, by reason: the call cancelled, its deadline passed, or displaced.",
            ["reason"],
            registry=self.registry,
        )
        self.decode_wait = Histogram(
            f"{PREFIX}decode_wait_seconds",
            "Seconds that a picture or features waited to be decoded.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        text = "Boxes that a network saw and nobody got; not_finite: a number of theirs is NaN or infinite."
        labels = ["model", "reason"]
        self._boxes_dropped = Counter(f"{PREFIX}boxes_dropped", text, labels, registry=self.registry)
        self._decode = _seconds("decode", "Seconds from payload to input tensor.", self.registry)
        self._queue = _seconds("queue", "Seconds of waiting for the network.", self.registry)
        self._infer = _seconds("infer", "Seconds of one run of the network.", self.registry)
        text = "Rows in one run of the network."
        self._rows = LoopHistogram(f"{PREFIX}batch_rows", text, ("model",), _ROWS, self.registry)

    def watch_readiness(self, ready: Callable[[], bool]) -> None:
        """Whether the server is ready for requests, as its probes are told."""
        text = "1 while the server is ready for requests, as its probes are told."
        self._gauge("ready", text).set_function(ready)

    def watch_connections(self, by_standing: Callable[[], Mapping[str, float]]) -> Counter:
        """How many connections are open, by what they have shown; returns what counts the closed ones."""
        text = "Connections that are open, by what they have shown: stranger, known by a call, proven."
        self._watch_each("connections", text, "standing", by_standing)
        return Counter(
            f"{PREFIX}connections_closed",
            "Connections that were closed to keep room for others.",
            ["cause"],
            registry=self.registry,
        )

    def watch_streams(self, by_method: Callable[[], Mapping[str, float]]) -> None:
        """How many calls with many answers have begun and not ended."""
        text = "Calls with many answers that have begun and not ended."
        self._watch_each("open_streams", text, "method", by_method)

    def watch_memory(self, by_kind: Callable[[], Mapping[str, float]], limit_bytes: int) -> None:
        """What messages in flight take, by what they are in flight for, and what all may take together."""
        text = "Bytes in flight, by kind: of calls, and of messages being received, in work, or not yet sent."
        self._watch_each("memory_in_flight_bytes", text, "kind", by_kind)
        text = "Bytes that calls and messages in flight may take together."
        self._gauge("memory_limit_bytes", text).set(limit_bytes)

    def of_streams(self) -> "StreamMetrics":
        """The metrics of streams; once."""
        return StreamMetrics(self.registry, self._watch_each)

    def watch_certificate(self, expires_unix_s: Callable[[], float]) -> None:
        """When the server's certificate ends."""
        self._gauge(
            "certificate_expiration_timestamp_seconds", "When the server's certificate ends, in Unix time."
        ).set_function(expires_unix_s)

    def of_model(self, model_id: ModelId) -> "ModelMetrics":
        """The metrics of one model; versions of a model count together."""
        name = model_id.name
        return ModelMetrics(
            self._decode.labels(name),
            self._queue.labels(name),
            self._infer.labels(name),
            self._rows.labels(name),
            self._boxes_dropped.labels(name, "not_finite"),
        )

    def _watch_each(
        self, name: str, text: str, label: str, values: Callable[[], Mapping[str, float]]
    ) -> None:
        gauge = Gauge(PREFIX + name, text, [label], registry=self.registry)
        for key in values():
            gauge.labels(key).set_function(partial(_one_of, values, key))

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(PREFIX + name, text, registry=self.registry)


class StreamMetrics:
    """What is counted of streams: pictures and features coded against earlier ones."""

    def __init__(self, registry: CollectorRegistry, watch_each: Callable[..., None]) -> None:
        self._registry = registry
        self._watch_each = watch_each
        self.keys = self._counter("keys", "Payloads of streams that were coded against none.")
        self.pictures = self._counter("pictures", "Pictures of video that were decoded.")
        self.unasked = self._counter(
            "pictures_unasked", "Pictures of video that were decoded only because a later one needs them."
        )
        self.dropped = self._counter("dropped", "Streams that nobody used and that made room for others.")
        self.lost = self._counter("lost", "Payloads of streams that a key must replace, by reason.", "reason")
        self.refused = self._counter("refused", "Streams that could not begin, by reason.", "reason")

    def watch(
        self, by_state: Callable[[], Mapping[str, float]], used: Callable[[], float], limit: int
    ) -> None:
        """How many streams are held, in use or not, and what they take and may take."""
        self._watch_each("streams", "Streams that are held, by state: busy, idle.", "state", by_state)
        text = "Bytes that the streams which are held may take, as they are charged."
        Gauge(f"{PREFIX}stream_bytes", text, registry=self._registry).set_function(used)
        text = "Bytes that all streams may take together."
        Gauge(f"{PREFIX}stream_limit_bytes", text, registry=self._registry).set(limit)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"{PREFIX}stream_{name}", text, labels, registry=self._registry)


class ModelMetrics:
    """Of one model: decoding, queue and inference times, rows per batch, and boxes that are not finite."""

    def __init__(
        self,
        decode: Observations,
        queue: Observations,
        infer: Observations,
        rows: Observations,
        boxes_dropped: Counter,
    ) -> None:
        self.boxes_dropped = boxes_dropped
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


def _seconds(stage: str, text: str, registry: Registry) -> LoopHistogram:
    return LoopHistogram(f"{PREFIX}{stage}_seconds", text, ("model",), _SECONDS, registry)
