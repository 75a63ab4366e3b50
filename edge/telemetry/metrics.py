"""What the daemon counts, for Prometheus and for the summary in its log.

Every captured frame ends once: `frames_captured` is the sum of `frames` over the endings and `frames_dropped`
over the reasons, plus the few that are still on their way.
"""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from spillover.common.types import AnsweredBy, Result
from spillover.edge.link.state import BreakerPhase
from spillover.edge.policy.auditor import ErrorEstimate
from spillover.edge.spool.collector import SpoolCollector
from spillover.edge.spool.spool import SpoolState

_LATENCY_BUCKETS_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_PREFIX = "spillover_edge_"
_BOUNDS = ("estimate", "low", "high")
CAMERA_STATES = ("ok", "frozen", "lost", "ended")


class Metrics:
    """The counters of one daemon, in a registry of their own. Thread-safe.

    What is counted for every frame has its labels looked up once: a lookup costs more than a count.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._captured = self._counter("frames_captured", "Frames captured.")
        endings = self._counter("frames", "First results, by who answered.", "ending")
        self._endings = {ending: endings.labels(ending.value) for ending in AnsweredBy}
        self._dropped = self._counter("frames_dropped", "Captured frames without a result.", "reason")
        self._revisions = self._counter("revisions", "Cloud answers that came after the first result.")
        self._unreadable = self._counter("pictures_unreadable", "Damaged pictures, skipped.")
        self._calls = self._counter("uplink_calls", "Frames handed to the uplink, by outcome.", "status")
        self._bytes = self._counter("uplink_payload_bytes", "Bytes of payload sent, by kind.", "kind")
        self._results_dropped = self._counter(
            "results_dropped", "Results that a sink did not get.", "sink", "reason"
        )
        self._events_dropped = self._counter(
            "events_dropped", "Events that a sink did not get.", "sink", "reason"
        )
        self._spool_refused = self._counter(
            "spool_refused", "Frames worth a late answer that the spool did not take.", "reason"
        )
        self._audits = self._counter("audits", "Frames sent at random and answered.")
        text = "Share of all frames that are kept and wrong: estimate and 95 % interval."
        self._edge_error = self._states("edge_error_ratio", text, "bound")
        self._breaker = self._states("breaker", "1 for the current phase of the circuit breaker.", "phase")
        self._camera = self._states("camera_state", "1 for the current state of the camera.", "state")
        self.breaker(BreakerPhase.CLOSED)
        latency = Histogram(
            f"{_PREFIX}latency_seconds",
            "Seconds from capture to first result.",
            ["ending"],
            buckets=_LATENCY_BUCKETS_S,
            registry=self.registry,
        )
        self._latency = {ending: latency.labels(ending.value) for ending in AnsweredBy}

    def captured(self) -> None:
        """A frame got its number."""
        self._captured.inc()

    def dropped(self, reason: str, count: int = 1) -> None:
        """Frames will have no result."""
        self._dropped.labels(reason).inc(count)

    def unreadable(self) -> None:
        """A picture was skipped."""
        self._unreadable.inc()

    def result(self, result: Result) -> None:
        """A result was given."""
        if result.revision:
            self._revisions.inc()
            return
        self._endings[result.answered_by].inc()
        self._latency[result.answered_by].observe(result.timings.total_s)

    def call(self, status: str, payload_bytes: int, kind: str) -> None:
        """A frame handed to the uplink came to its end."""
        self._calls.labels(status).inc()
        if payload_bytes:
            self._bytes.labels(kind).inc(payload_bytes)

    def breaker(self, phase: BreakerPhase) -> None:
        """The breaker changed."""
        _only(self._breaker, phase.value, (known.value for known in BreakerPhase))

    def camera(self, state: str) -> None:
        """The camera's state changed."""
        _only(self._camera, state, CAMERA_STATES)

    def spool_refused(self, reason: str) -> None:
        """The spool did not take a frame."""
        self._spool_refused.labels(reason).inc()

    def watch_spool(self, state: Callable[[], SpoolState]) -> None:
        """Ask `state` for the spool's counters whenever the metrics are read."""
        self.registry.register(SpoolCollector(state))

    def watch_certificate(self, days_left: Callable[[], float]) -> None:
        """Ask `days_left` for the days until the device's certificate ends whenever the metrics are read."""
        gauge = Gauge(
            f"{_PREFIX}certificate_days_left",
            "Days until this device's certificate ends.",
            registry=self.registry,
        )
        gauge.set_function(days_left)

    def watch_budget(self, left_bytes: Callable[[], float], charged_bytes: Callable[[], float]) -> None:
        """Ask for what is left of the byte budget, and what was charged to it, whenever metrics are read."""
        text = "Bytes that may leave now."
        Gauge(f"{_PREFIX}budget_left_bytes", text, registry=self.registry).set_function(left_bytes)
        text = "Bytes charged to the budget, headers and connections included."
        Gauge(f"{_PREFIX}budget_charged_bytes", text, registry=self.registry).set_function(charged_bytes)

    def edge_error(self, estimate: ErrorEstimate) -> None:
        """An audit was answered."""
        bounds = (estimate.error, estimate.low, estimate.high)
        for bound, value in zip(_BOUNDS, bounds, strict=True):
            self._edge_error.labels(bound).set(value)
        self._audits.inc()

    def result_dropped(self, sink: str, reason: str) -> None:
        """A sink did not get a result."""
        self._results_dropped.labels(sink, reason).inc()

    def event_dropped(self, sink: str, reason: str) -> None:
        """A sink did not get an event."""
        self._events_dropped.labels(sink, reason).inc()

    def summary(self) -> dict[str, int]:
        """Every counter that is not zero, as `name` or `name[label,label]`."""
        return {
            _key(sample.name, sample.labels): int(sample.value)
            for family in self.registry.collect()
            if family.type == "counter"
            for sample in family.samples
            if sample.name.endswith("_total") and sample.value
        }

    def _states(self, name: str, text: str, label: str) -> Gauge:
        return Gauge(_PREFIX + name, text, [label], registry=self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(_PREFIX + name, text, labels, registry=self.registry)


def _only(gauge: Gauge, current: str, known: Iterable[str]) -> None:
    for name in known:
        gauge.labels(name).set(name == current)


def _key(name: str, labels: dict[str, str]) -> str:
    short = name.removeprefix(_PREFIX).removesuffix("_total")
    return f"{short}[{','.join(labels.values())}]" if labels else short
