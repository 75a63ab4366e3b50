"""The counters of a daemon, for Prometheus, the log and the status.

Every captured frame ends once: `frames_captured` is the sum of `frames` over the endings and `frames_dropped`
over the reasons, plus the few frames in process.
"""

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from prometheus_client import Counter, Gauge, Histogram, Info

from spillover.common.metrics import process_registry
from spillover.common.model.manifest import Manifest
from spillover.common.types import AnsweredBy, Result
from spillover.edge.camera.source import CameraState
from spillover.edge.events.values import Phase
from spillover.edge.health.readings import Readings
from spillover.edge.link.state import BreakerPhase
from spillover.edge.payload.streams import KeyCause
from spillover.edge.policy.auditor import ErrorEstimate
from spillover.edge.results.delivery import EventKind
from spillover.edge.spool.values import Refusal, SpoolState
from spillover.edge.telemetry.collectors import (
    OF_DEVICE,
    PREFIX,
    BudgetCollector,
    EvidenceCollector,
    EvidenceState,
    HealthCollector,
    LiveViewCollector,
    SceneCollector,
    SpoolCollector,
    TrackingCollector,
)
from spillover.edge.tracking.stage import TrackingCounts
from spillover.edge.uplink.call_status import LATE, RETRIED

_LATENCY_BUCKETS_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_BOUNDS = ("estimate", "low", "high")


@dataclass(frozen=True, slots=True)
class Counts:
    """The counters at one moment; every number counts from the daemon's start, zeros are left out."""

    captured: int
    endings: dict[str, int]
    dropped: dict[str, int]
    revisions: int
    calls: dict[str, int]
    """Frames handed to the uplink, those from the spool included, by outcome."""
    sent: int
    """Frames of the camera that left the device, those from the spool not included."""
    payload_bytes: dict[str, int]
    keys: dict[str, int]
    """Keys of streams by cause."""
    results_dropped: dict[tuple[str, str], int]
    """By sink and reason."""
    events_dropped: dict[tuple[str, str], int]
    spool_refused: dict[str, int]
    boxes_dropped: dict[str, int]
    """Boxes of the local model, by reason."""
    edge_error: ErrorEstimate | None
    certificate_ends_unix_s: float | None


class Metrics:
    """The counters of one daemon, in a registry of their own. Thread-safe.

    Label lookups for per-frame counters are done once, because a lookup costs more than a count.
    """

    def __init__(self) -> None:
        self.registry = process_registry(PREFIX)
        self._captured = self._counter("frames_captured", "Frames captured.")
        self._answers = self._counter("frames", "First results, by who answered.", "ending")
        self._endings = {ending: self._answers.labels(ending.value) for ending in AnsweredBy}
        self._dropped = self._counter("frames_dropped", "Captured frames without a result.", "reason")
        self._captured_by = self._counter("source_frames_captured", "Frames captured, by camera.", "camera")
        self._dropped_by = self._counter(
            "source_frames_dropped", "Captured frames without a result, by camera.", "camera"
        )
        self._revisions = self._counter("revisions", "Cloud answers that came after the first result.")
        self._thinned = self._counter(
            "pictures_thinned", "Pictures passed over, so that fewer frames are captured.", "reason"
        )
        self._unreadable = self._counter("pictures_unreadable", "Damaged pictures, skipped.")
        self._calls = self._counter("uplink_calls", "Frames handed to the uplink, by outcome.", "status")
        self._bytes = self._counter("uplink_payload_bytes", "Bytes of payload sent, by kind.", "kind")
        self._keys = self._counter(
            "stream_keys", "Payloads that needed nothing sent before, by kind and why.", "kind", "cause"
        )
        self._stream_failures = self._counter(
            "stream_failures", "Frames that a stream's codec did not take; they go without it.", "kind"
        )
        self._results_dropped = self._counter(
            "results_dropped", "Results that a sink did not get.", "sink", "reason"
        )
        self._events_dropped = self._counter(
            "events_dropped", "Events that a sink did not get.", "sink", "reason"
        )
        self._spool_refused = self._counter(
            "spool_refused", "Frames worth a late answer that the spool did not accept.", "reason"
        )
        self._pages_refused = self._counter(
            "page_refused", "Requests for pages that were refused, by cause.", "cause"
        )
        text = "Boxes of the edge's model that nobody got; not_finite: a number of theirs is NaN or infinite."
        self._boxes_dropped = self._counter("boxes_dropped", text, "reason")
        self._object_events = self._counter(
            "object_events", "Events of tracked objects; one that is settled counts again.", "event", "phase"
        )
        self._zones = self._states("objects_inside", "Objects in a zone now.", "camera", "zone")
        self._evidence = self._counter("evidence_stored", "Pictures and clips that were stored.", "kind")
        self._evidence_lost = self._counter(
            "evidence_lost",
            "Pictures, clips, and frames of clips that were wanted and are missing.",
            "kind",
            "reason",
        )
        self._audits = self._counter("audits", "Frames sent at random and answered.")
        text = "Share of all frames that are kept and wrong: estimate and 95 % interval."
        self._edge_error = self._states("error_ratio", text, "bound")
        self._breaker = self._states("breaker", "1 for the current phase of the circuit breaker.", "phase")
        self._camera = self._states("source", "1 for the current state of the camera.", "camera", "state")
        text = "The local model, and its network's digest."
        self._model = Info(f"{PREFIX}model", text, registry=self.registry)
        self.breaker(BreakerPhase.CLOSED)
        text = "1 while edge and cloud do not fit: a model of another task or name, or another protocol."
        self._misfit = Gauge(f"{PREFIX}pair_misfit", text, registry=self.registry)
        latency = Histogram(
            f"{PREFIX}latency_seconds",
            "Seconds from capture to first result.",
            ["ending"],
            buckets=_LATENCY_BUCKETS_S,
            registry=self.registry,
        )
        self._inference = Histogram(
            f"{PREFIX}inference_seconds",
            "Seconds that the local model takes for a frame, with what is around it.",
            buckets=_LATENCY_BUCKETS_S,
            registry=self.registry,
        )
        self._ladder = self._counter(
            "ladder_steps", "Steps of the ladder, by what led there; well: a step down.", "cause"
        )
        self._latency = {ending: latency.labels(ending.value) for ending in AnsweredBy}
        self._sent = Counter("sent", "", registry=None)  # for the status alone
        self._last_error: ErrorEstimate | None = None
        self._certificate: Callable[[], float] | None = None

    def captured(self, camera_id: str) -> None:
        """Count a captured frame."""
        self._captured.inc()
        self._captured_by.labels(camera_id).inc()

    def model(self, manifest: Manifest) -> None:
        """Say which network answers from now on."""
        named = {"name": manifest.name, "version": manifest.version}
        self._model.info(named | {"sha256": manifest.sha256, "made_on": manifest.made_on})

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

    def thinned(self, reason: str) -> None:
        """Count a picture that gives no frame because fewer are wanted."""
        self._thinned.labels(reason).inc()

    def unreadable(self) -> None:
        """Count a picture that could not be read."""
        self._unreadable.inc()

    def result(self, result: Result) -> None:
        """Count a revision, or a first result with its latency."""
        if result.revision:
            self._revisions.inc()
            return
        if not result.reused_from:
            self._inference.observe(result.timings.model_s)
        self._endings[result.answered_by].inc()
        self._latency[result.answered_by].observe(result.timings.total_s)

    def stepped(self, cause: str, *, up: bool) -> None:
        """Count a step of the ladder."""
        self._ladder.labels(cause if up else "well").inc()

    def call(self, status: str, payload_bytes: int, kind: str) -> None:
        """Count the end of a call to the cloud, and its bytes."""
        self._calls.labels(status).inc()
        if payload_bytes:
            self._bytes.labels(kind).inc(payload_bytes)
            if kind != LATE and status != RETRIED:
                self._sent.inc()

    def stream_key(self, kind: str, cause: KeyCause) -> None:
        """Count a key."""
        self._keys.labels(kind, cause.value).inc()

    def stream_failed(self, kind: str) -> None:
        """Count a frame that a stream's codec did not take."""
        self._stream_failures.labels(kind).inc()

    def breaker(self, phase: BreakerPhase) -> None:
        """Set the breaker's phase."""
        _mark(self._breaker, phase)

    def misfit(self, *, is_so: bool) -> None:
        """Set whether edge and cloud do not fit together."""
        self._misfit.set(is_so)

    def camera(self, camera_id: str, state: CameraState) -> None:
        """Set a camera's state."""
        _mark(self._camera, state, camera_id)

    def object_event(self, kind: EventKind, phase: Phase) -> None:
        """Count an event of a tracked object."""
        self._object_events.labels(kind.value, phase.value).inc()

    def zone_count(self, camera_id: str, zone: str, count: int) -> None:
        """Set how many objects a zone has."""
        self._zones.labels(camera_id, zone).set(count)

    def evidence_stored(self, kind: str) -> None:
        """Count a picture or a clip."""
        self._evidence.labels(kind).inc()

    def evidence_lost(self, kind: str, reason: str) -> None:
        """Count a picture or a clip that was wanted and is not there."""
        self._evidence_lost.labels(kind, reason).inc()

    def boxes_dropped(self, count: int) -> None:
        """Count boxes that are not finite."""
        self._boxes_dropped.labels("not_finite").inc(count)

    def spool_refused(self, refusal: Refusal) -> None:
        """Count a frame that the spool refused."""
        self._spool_refused.labels(refusal.value).inc()

    def watch_spool(self, state: Callable[[], SpoolState]) -> None:
        """Read the spool's counters from `state` on each scrape."""
        self.registry.register(SpoolCollector(state))

    def watch_certificate(self, expires_unix_s: Callable[[], float]) -> None:
        """Read when the device's certificate expires, in Unix time, from `expires_unix_s` on each scrape."""
        gauge = Gauge(
            f"{PREFIX}certificate_expiration_timestamp_seconds",
            "When this device's certificate ends, in Unix time.",
            registry=self.registry,
        )
        gauge.set_function(expires_unix_s)
        self._certificate = expires_unix_s

    def watch_budget(self, left_bytes: Callable[[], float], charged_bytes: Callable[[], float]) -> None:
        """Read the byte budget's balance and the bytes charged to it on each scrape."""
        self.registry.register(BudgetCollector(left_bytes, charged_bytes))

    def watch_tracking(self, counts: Callable[[], Iterable[TrackingCounts | None]]) -> None:
        """Read from `counts` what the cameras' trackers have done on each scrape."""
        self.registry.register(TrackingCollector(counts))

    def watch_scenes(self, cameras: Callable[[], Iterable[tuple[str, float | None, int]]]) -> None:
        """Read by camera from `cameras` the rate that its scene asks for and the frames not looked at."""
        self.registry.register(SceneCollector(cameras))

    def watch_live_view(self, viewers: Callable[[], int], dropped: Callable[[], int]) -> None:
        """Read who looks at the live view, and what they have lost, on each scrape."""
        self.registry.register(LiveViewCollector(viewers, dropped))

    def watch_evidence(self, state: Callable[[], EvidenceState]) -> None:
        """Read from `state` what the folder of evidence has on each scrape."""
        self.registry.register(EvidenceCollector(state))

    def page_refused(self, cause: str) -> None:
        """Count a request for a page that was refused."""
        self._pages_refused.labels(cause).inc()

    def watch_health(self, latest: Callable[[], Readings], step: Callable[[], int] | None = None) -> None:
        """Read the device's health from `latest`, and its step of the ladder, on each scrape."""
        self.registry.register(HealthCollector(latest, step))

    def edge_error(self, estimate: ErrorEstimate) -> None:
        """Set the error estimate, which an answered audit has changed."""
        self._last_error = estimate
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

    def counts(self) -> Counts:
        """The counters now. What ends frames is read before what begins them, so no sum is ever too large."""
        endings, dropped = _by(self._answers), _by(self._dropped)
        return Counts(
            endings={ending: count for (ending,), count in endings.items()},
            dropped={reason: count for (reason,), count in dropped.items()},
            captured=self.frames_captured,
            revisions=_by(self._revisions).get((), 0),
            calls={status: count for (status,), count in _by(self._calls).items()},
            sent=_by(self._sent).get((), 0),
            payload_bytes={kind: count for (kind,), count in _by(self._bytes).items()},
            keys=_sums(_by(self._keys)),
            results_dropped={(sink, why): n for (sink, why), n in _by(self._results_dropped).items()},
            events_dropped={(sink, why): n for (sink, why), n in _by(self._events_dropped).items()},
            spool_refused={reason: count for (reason,), count in _by(self._spool_refused).items()},
            boxes_dropped={reason: count for (reason,), count in _by(self._boxes_dropped).items()},
            edge_error=self._last_error,
            certificate_ends_unix_s=self._certificate() if self._certificate else None,
        )

    def summary(self) -> dict[str, int]:
        """Every counter of the daemon, of all cameras, that is not zero, as `name` or `name[label,label]`."""
        return {
            _key(sample.name, sample.labels): int(sample.value)
            for family in self.registry.collect()
            if family.type == "counter" and family.name not in OF_DEVICE
            for sample in family.samples
            if sample.name.startswith(PREFIX) and sample.name.endswith("_total") and sample.value
            if "camera" not in sample.labels
        }

    def _states(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(PREFIX + name, text, labels, registry=self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(PREFIX + name, text, labels, registry=self.registry)


def _mark(gauge: Gauge, current: enum.Enum, *of: str) -> None:
    """Set the sample of the current state to 1 and those of all other states to 0; `of` are more labels."""
    for state in type(current):
        gauge.labels(*of, state.value).set(state is current)


def _by(counter: Counter) -> dict[tuple[str, ...], int]:
    """The counts that are not zero, by the values of their labels."""
    return {
        tuple(sample.labels.values()): int(sample.value)
        for family in counter.collect()
        for sample in family.samples
        if sample.name.endswith("_total") and sample.value
    }


def _sums(counts: dict[tuple[str, ...], int]) -> dict[str, int]:
    """The counts by the last label alone."""
    sums: dict[str, int] = {}
    for (*_, last), count in counts.items():
        sums[last] = sums.get(last, 0) + count
    return sums


def _key(name: str, labels: dict[str, str]) -> str:
    short = name.removeprefix(PREFIX).removesuffix("_total")
    return f"{short}[{','.join(labels.values())}]" if labels else short
