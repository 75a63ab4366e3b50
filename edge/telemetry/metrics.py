"""Counts frame events for Prometheus and for the log, and reports them to the sinks.

Every captured frame ends once: `frames_captured` is the sum of `frames` over the endings and `frames_dropped`
over the reasons, plus the few frames in process.
"""

import enum
import time
from collections.abc import Callable, Iterator

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from spillover.common.log import get_logger
from spillover.common.metrics import process_registry
from spillover.common.types import AnsweredBy, Frame, Result
from spillover.edge.camera.source import CameraState
from spillover.edge.link.state import BreakerPhase
from spillover.edge.policy.auditor import ErrorEstimate
from spillover.edge.results.delivery import DeliveryAck, Event, EventKind
from spillover.edge.runtime.frame_clock import ClockSet, FrameClock
from spillover.edge.spool.arena import Fate
from spillover.edge.spool.spool import Refusal, SpoolState

_log = get_logger("camera")

_LATENCY_BUCKETS_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_PREFIX = "spillover_edge_"
_BOUNDS = ("estimate", "low", "high")

Put = Callable[[Result | Event], DeliveryAck]


class FrameEvents:
    """Counts the events of all stages and passes them to the sinks by `put`. Thread-safe; never blocks.

    Times of results are corrected by `frame_clock`, from which the frames have their numbers.
    """

    def __init__(self, metrics: "Metrics", put: Put, frame_clock: FrameClock | None = None) -> None:
        self._metrics = metrics
        self._put = put
        self.frame_clock = frame_clock or FrameClock("")
        self.frame_clock.on_set = self._clock_set
        self.camera_states: dict[str, CameraState] = {}
        """The last state of each camera, by its name."""

    def result(self, result: Result) -> None:
        """A frame got its first result or a revision."""
        self.late(result)

    def late(self, result: Result) -> DeliveryAck:
        """A spooled frame got its revision; the spool forgets the frame once a sink has stored it."""
        self._metrics.result(result)
        with self.frame_clock.lock:
            return self._put(self.frame_clock.corrected(result))

    def captured(self, camera_id: str) -> None:
        """A frame was captured."""
        self._metrics.captured(camera_id)

    def dropped(self, frame: Frame, reason: str) -> None:
        """A captured frame gets no result."""
        self._metrics.dropped(reason, frame.camera_id)
        self.emit(
            EventKind.DROPPED,
            camera_id=frame.camera_id,
            frame_id=frame.frame_id,
            sequence=frame.sequence,
            reason=reason,
        )

    def unreadable(self) -> None:
        """A picture was damaged, so it gives no frame."""
        self._metrics.unreadable()

    def camera(self, camera_id: str, state: CameraState, detail: str = "") -> None:
        """The camera's state, its cause or the size of the pictures changed."""
        is_well = state is CameraState.OK or (state is CameraState.ENDED and not detail)
        tell = _log.info if is_well else _log.warning
        tell("camera state", camera=camera_id, state=state.value, detail=detail)
        self._metrics.camera(camera_id, state)
        self.camera_states[camera_id] = state
        self.emit(EventKind.CAMERA_STATE, camera_id=camera_id, state=state.value, detail=detail)

    def call(self, status: str, payload_bytes: int, kind: str) -> None:
        """A call to the cloud ended."""
        self._metrics.call(status, payload_bytes, kind)

    def breaker(self, phase: BreakerPhase) -> None:
        """A call ended without evidence about the link; a probe is repeated after an equal pause."""
        self._metrics.breaker(phase)
        self.emit(EventKind.BREAKER, phase=phase.value)

    def spooled(self, fate: Fate, frame_id: str) -> None:
        """The spool accepted a frame, or a frame left it; the spool counts these itself."""
        self.emit(EventKind.SPOOL, frame_id=frame_id, fate=fate.value)

    def refused(self, refusal: Refusal) -> None:
        """The spool refused a frame that should get a late answer."""
        self._metrics.spool_refused(refusal)

    def _clock_set(self, found: ClockSet) -> None:
        get_logger("clock").warning("clock was set", by_s=round(found.shift_s, 3))
        self.emit(
            EventKind.CLOCK_SET,
            boot_id=self.frame_clock.boot_id,
            shift_s=round(found.shift_s, 6),
            to_sequence=found.to_sequence,
            from_unix_s=round(found.from_unix_s, 6),
            to_unix_s=round(found.to_unix_s, 6),
        )

    def emit(self, kind: EventKind, **fields: str | int | float) -> None:
        """Send an event to the sinks."""
        self._put(Event(kind, time.time(), fields))


class Metrics:
    """The counters of one daemon, in a registry of their own. Thread-safe.

    Label lookups for per-frame counters are done once, because a lookup costs more than a count.
    """

    def __init__(self) -> None:
        self.registry = process_registry(_PREFIX)
        self._captured = self._counter("frames_captured", "Frames captured.")
        endings = self._counter("frames", "First results, by who answered.", "ending")
        self._endings = {ending: endings.labels(ending.value) for ending in AnsweredBy}
        self._dropped = self._counter("frames_dropped", "Captured frames without a result.", "reason")
        self._captured_by = self._counter("source_frames_captured", "Frames captured, by camera.", "camera")
        self._dropped_by = self._counter(
            "source_frames_dropped", "Captured frames without a result, by camera.", "camera"
        )
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
            "spool_refused", "Frames worth a late answer that the spool did not accept.", "reason"
        )
        self._audits = self._counter("audits", "Frames sent at random and answered.")
        text = "Share of all frames that are kept and wrong: estimate and 95 % interval."
        self._edge_error = self._states("error_ratio", text, "bound")
        self._breaker = self._states("breaker", "1 for the current phase of the circuit breaker.", "phase")
        self._camera = self._states("source", "1 for the current state of the camera.", "camera", "state")
        self.breaker(BreakerPhase.CLOSED)
        latency = Histogram(
            f"{_PREFIX}latency_seconds",
            "Seconds from capture to first result.",
            ["ending"],
            buckets=_LATENCY_BUCKETS_S,
            registry=self.registry,
        )
        self._latency = {ending: latency.labels(ending.value) for ending in AnsweredBy}

    def captured(self, camera_id: str) -> None:
        """Count a captured frame."""
        self._captured.inc()
        self._captured_by.labels(camera_id).inc()

    @property
    def frames_captured(self) -> int:
        """How often `captured` was called.

        Reads only this counter, while `summary` also reads the spool's.
        """
        return int(next(sample.value for family in self._captured.collect() for sample in family.samples))

    def dropped(self, reason: str, camera_id: str) -> None:
        """Count a frame that gets no result."""
        self._dropped.labels(reason).inc()
        self._dropped_by.labels(camera_id).inc()

    def unreadable(self) -> None:
        """Count a picture that could not be read."""
        self._unreadable.inc()

    def result(self, result: Result) -> None:
        """Count a revision, or a first result with its latency."""
        if result.revision:
            self._revisions.inc()
            return
        self._endings[result.answered_by].inc()
        self._latency[result.answered_by].observe(result.timings.total_s)

    def call(self, status: str, payload_bytes: int, kind: str) -> None:
        """Count the end of a call to the cloud, and its bytes."""
        self._calls.labels(status).inc()
        if payload_bytes:
            self._bytes.labels(kind).inc(payload_bytes)

    def breaker(self, phase: BreakerPhase) -> None:
        """Set the breaker's phase."""
        _mark(self._breaker, phase)

    def camera(self, camera_id: str, state: CameraState) -> None:
        """Set a camera's state."""
        _mark(self._camera, state, camera_id)

    def spool_refused(self, refusal: Refusal) -> None:
        """Count a frame that the spool refused."""
        self._spool_refused.labels(refusal.value).inc()

    def watch_spool(self, state: Callable[[], SpoolState]) -> None:
        """Read the spool's counters from `state` on each scrape."""
        self.registry.register(SpoolCollector(state))

    def watch_certificate(self, expires_unix_s: Callable[[], float]) -> None:
        """Read when the device's certificate expires, in Unix time, from `expires_unix_s` on each scrape."""
        gauge = Gauge(
            f"{_PREFIX}certificate_expiration_timestamp_seconds",
            "When this device's certificate ends, in Unix time.",
            registry=self.registry,
        )
        gauge.set_function(expires_unix_s)

    def watch_budget(self, left_bytes: Callable[[], float], charged_bytes: Callable[[], float]) -> None:
        """Read the byte budget's balance and the bytes charged to it on each scrape."""
        self.registry.register(BudgetCollector(left_bytes, charged_bytes))

    def edge_error(self, estimate: ErrorEstimate) -> None:
        """Set the error estimate, which an answered audit has changed."""
        bounds = (estimate.error, estimate.low, estimate.high)
        for bound, value in zip(_BOUNDS, bounds, strict=True):
            self._edge_error.labels(bound).set(value)
        self._audits.inc()

    def result_dropped(self, sink: str, reason: str) -> None:
        """Count a result that a sink did not get."""
        self._results_dropped.labels(sink, reason).inc()

    def event_dropped(self, sink: str, reason: str) -> None:
        """Count an event that a sink did not get."""
        self._events_dropped.labels(sink, reason).inc()

    def summary(self) -> dict[str, int]:
        """Every counter of the whole device that is not zero, as `name` or `name[label,label]`."""
        return {
            _key(sample.name, sample.labels): int(sample.value)
            for family in self.registry.collect()
            if family.type == "counter"
            for sample in family.samples
            if sample.name.startswith(_PREFIX) and sample.name.endswith("_total") and sample.value
            if "camera" not in sample.labels
        }

    def _states(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(_PREFIX + name, text, labels, registry=self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(_PREFIX + name, text, labels, registry=self.registry)


def _mark(gauge: Gauge, current: enum.Enum, *of: str) -> None:
    """Set the sample of the current state to 1 and those of all other states to 0; `of` are more labels."""
    for state in type(current):
        gauge.labels(*of, state.value).set(state is current)


def _key(name: str, labels: dict[str, str]) -> str:
    short = name.removeprefix(_PREFIX).removesuffix("_total")
    return f"{short}[{','.join(labels.values())}]" if labels else short


class BudgetCollector(Collector):
    """The byte budget's figures, which the meter keeps."""

    def __init__(self, left_bytes: Callable[[], float], charged_bytes: Callable[[], float]) -> None:
        self._left_bytes = left_bytes
        self._charged_bytes = charged_bytes

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of this moment."""
        text = "Bytes that may leave now."
        yield GaugeMetricFamily(f"{_PREFIX}budget_left_bytes", text, value=self._left_bytes())
        text = "Bytes charged to the budget, headers and connections included."
        yield CounterMetricFamily(f"{_PREFIX}budget_charged_bytes", text, value=self._charged_bytes())


class SpoolCollector(Collector):
    """The spool's counters, all of one moment: `state` is read once per scrape, so the sums always match.

    `recovered` plus the fate `accepted` is the sum of the other fates plus `pending`.
    """

    def __init__(self, state: Callable[[], SpoolState]) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of this moment."""
        state = self._state()
        prefix = f"{_PREFIX}spool_"
        text = "Frames accepted by the disk, and how they ended."
        fates = CounterMetricFamily(f"{prefix}frames", text, labels=["fate"])
        for fate in Fate:
            fates.add_metric([fate.value], getattr(state, fate.value))
        yield fates
        yield CounterMetricFamily(f"{prefix}syncs", "Commits to the disk.", value=state.syncs)
        text = "Frames found on the disk at the start."
        yield GaugeMetricFamily(f"{prefix}recovered", text, value=state.recovered)
        yield GaugeMetricFamily(f"{prefix}pending", "Frames on the disk.", value=state.pending)
        yield GaugeMetricFamily(f"{prefix}bytes", "Bytes of the file in use.", value=state.pending_bytes)
        text = "Age of the oldest frame on the disk."
        yield GaugeMetricFamily(f"{prefix}oldest_age_seconds", text, value=state.oldest_age_s)
        failing = float(bool(state.error))
        yield GaugeMetricFamily(f"{prefix}failing", "1 while the disk cannot be used.", value=failing)
