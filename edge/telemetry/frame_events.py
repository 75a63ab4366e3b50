"""Hears what happens to frames, cameras and links: counts it, logs it, and tells the sinks."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from spillover.common.log import get_logger
from spillover.common.types import Frame, Result
from spillover.edge.camera.source import CameraState
from spillover.edge.events.values import ObjectEvent
from spillover.edge.health.readings import LadderState
from spillover.edge.health.work import WorkMeter
from spillover.edge.link.state import BreakerPhase
from spillover.edge.results.delivery import DeliveryAck, Event, EventKind, Fields
from spillover.edge.runtime.frame_clock import ClockSet, FrameClock
from spillover.edge.runtime.rates import Rate
from spillover.edge.spool.values import Fate, Refusal
from spillover.edge.telemetry.metrics import Metrics

_log = get_logger("camera")
_health_log = get_logger("health")
OnResult = Callable[[Result], None]
OnEvent = Callable[[Event], None]
Put = Callable[[Result | Event], DeliveryAck]


@dataclass(frozen=True, slots=True)
class Condition:
    """The state of something, why, and since when (monotonic seconds)."""

    state: str
    detail: str
    since_s: float


class Evidence(Protocol):
    """Names what is kept of frames; must not block."""

    def of_result(self, result: Result) -> str:
        """The name of the picture of its frame; empty where none is kept."""
        ...

    def of_event(self, kind: EventKind, fields: Fields) -> Fields:
        """What names the evidence of a tracked object's event, beside its own fields."""
        ...


class FrameEvents:
    """Counts the events of all stages and passes them to the sinks by `put`. Thread-safe; never blocks.

    Times of results are corrected by `frame_clock`, from which the frames have their numbers.
    """

    def __init__(
        self,
        metrics: Metrics,
        put: Put,
        frame_clock: FrameClock | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._metrics = metrics
        self._put = put
        self._clock = clock
        self.frame_clock = frame_clock or FrameClock("")
        self.frame_clock.on_set = self._clock_set
        self._cameras: dict[str, Condition] = {}
        self.breaker_is = Condition(BreakerPhase.CLOSED.value, "", clock())
        """The breaker now, and since when calls have passed or not."""
        self.misfit = ""
        """Why edge and cloud do not fit together; empty: they do, as far as is known."""
        self.answered = Rate(clock)
        """First results."""
        self.work = WorkMeter(clock)
        self._on_result: OnResult | None = None
        self._evidence: Evidence | None = None
        self._on_event: OnEvent | None = None

    def watch(self, on_result: OnResult, on_event: OnEvent) -> None:
        """Have every result and event shown to these too, which must not block; before the first frame."""
        self._on_result, self._on_event = on_result, on_event

    def name_evidence(self, evidence: Evidence) -> None:
        """Have results and events name what is kept of them; before the first frame."""
        self._evidence = evidence

    def result(self, result: Result) -> None:
        """A frame got its first result or a revision."""
        if not result.revision:
            self.answered.mark()
            if not result.reused_from:
                self.work.mark(result.timings.model_s)
        self.late(result)

    def late(self, result: Result) -> DeliveryAck:
        """A spooled frame got its revision; the spool forgets the frame once a sink has stored it."""
        self._metrics.result(result)
        if self._evidence and (name := self._evidence.of_result(result)):
            result = replace(result, snapshot=name)
        with self.frame_clock.lock:
            result = self.frame_clock.corrected(result)
            if self._on_result:
                self._on_result(result)
            return self._put(result)

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

    def thinned(self, reason: str) -> None:
        """A picture was passed over, so it gives no frame."""
        self._metrics.thinned(reason)

    def unreadable(self) -> None:
        """A picture was damaged, so it gives no frame."""
        self._metrics.unreadable()

    def camera(self, camera_id: str, state: CameraState, detail: str = "") -> None:
        """The camera's state, its cause or the size of the pictures changed."""
        is_well = state is CameraState.OK or (state is CameraState.ENDED and not detail)
        tell = _log.info if is_well else _log.warning
        tell("camera state", camera=camera_id, state=state.value, detail=detail)
        self._metrics.camera(camera_id, state)
        before = self._cameras.get(camera_id)
        is_new = before is None or before.state != state.value
        since_s = self._clock() if before is None or is_new else before.since_s
        self._cameras[camera_id] = Condition(state.value, detail, since_s)
        self.emit(EventKind.CAMERA_STATE, camera_id=camera_id, state=state.value, detail=detail)

    def call(self, status: str, payload_bytes: int, kind: str) -> None:
        """A call to the cloud ended."""
        self._metrics.call(status, payload_bytes, kind)

    def camera_is(self, camera_id: str) -> Condition | None:
        """The camera's last reported state; None for one that has reported none yet."""
        return self._cameras.get(camera_id)

    def breaker(self, phase: BreakerPhase, reason: str) -> None:
        """The breaker has a new phase; the probes of one outage are all of its time."""
        was_closed = self.breaker_is.state == BreakerPhase.CLOSED.value
        turned = was_closed or phase is BreakerPhase.CLOSED
        since_s = self._clock() if turned else self.breaker_is.since_s
        self.breaker_is = Condition(phase.value, reason, since_s)
        self._metrics.breaker(phase)
        self.emit(EventKind.BREAKER, phase=phase.value)

    def fits(self, misfit: str) -> None:
        """Whether edge and cloud fit together has changed; `misfit` is why they do not."""
        self.misfit = misfit
        self._metrics.misfit(is_so=bool(misfit))

    def stepped(self, now: LadderState, before: int) -> None:
        """The device stands on another step of the ladder."""
        tell = _health_log.warning if now.step > before else _health_log.info
        tell("ladder", step=now.step, does=now.does, cause=now.cause, reason=now.reason)
        self._metrics.stepped(now.cause, up=now.step > before)
        self.emit(
            EventKind.LADDER, step=now.step, before=before, does=now.does, cause=now.cause, reason=now.reason
        )

    def spooled(self, fate: Fate, frame_id: str) -> None:
        """The spool accepted a frame, or a frame left it; the spool counts these itself."""
        self.emit(EventKind.SPOOL, frame_id=frame_id, fate=fate.value)

    def refused(self, refusal: Refusal) -> None:
        """The spool refused a frame that should get a late answer."""
        self._metrics.spool_refused(refusal)

    def happened(self, kind: EventKind, fields: Fields, of: ObjectEvent | None = None) -> None:
        """A tracked object did something (`of`), or a zone or line counts otherwise."""
        if of is not None:
            self._metrics.object_event(kind, of.phase)
            if self._evidence:
                fields = {**fields, **self._evidence.of_event(kind, fields)}
        elif kind is EventKind.ZONE_COUNT:
            camera_id, zone, count = (str(fields[name]) for name in ("camera_id", "zone", "count"))
            self._metrics.zone_count(camera_id, zone, int(count))
        with self.frame_clock.lock:
            at_unix_s = time.time()
            if of is not None:
                at_unix_s = self.frame_clock.time_now_known(of.sequence, of.at_unix_s)
            self._tell(Event(kind, at_unix_s, fields))

    def evidence_stored(self, kind: str, camera_id: str, frame_id: str, name: str) -> None:
        """A picture or a clip is on the disk, whole."""
        self._metrics.evidence_stored(kind)
        self.emit(EventKind.EVIDENCE, camera_id=camera_id, frame_id=frame_id, name=name)

    def evidence_lost(self, kind: str, reason: str) -> None:
        """One was wanted, and will not be there."""
        self._metrics.evidence_lost(kind, reason)

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
        self._tell(Event(kind, time.time(), fields))

    def _tell(self, event: Event) -> None:
        if self._on_event:
            self._on_event(event)
        self._put(event)
