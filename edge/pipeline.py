"""Processes one frame: infer -> decide -> answer at once, or offload."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from spillover.common.model.pictures import StepTimings
from spillover.common.types import (
    Action,
    AnsweredBy,
    Decision,
    Frame,
    ModelId,
    Prediction,
    Result,
    Timings,
)
from spillover.edge.device import Device
from spillover.edge.events.reporter import ObjectEvents
from spillover.edge.inference.reported import ReportFilter
from spillover.edge.inference.scene import Scene, watch
from spillover.edge.inference.still import LastLook
from spillover.edge.payload.masks import MaskFrame
from spillover.edge.payload.redaction import Redact
from spillover.edge.policy.base import Context, waits_after
from spillover.edge.policy.chain import Policy
from spillover.edge.policy.tracks import useful_s
from spillover.edge.results.deadlines import EXPECTED_LATE, PROBE, PendingFrame
from spillover.edge.tracking.stage import OnReply, Shown, TemporalStage, TrackingCounts, TrackSummary
from spillover.edge.uplink.outcome import CallOutcome, CloudAnswer


@dataclass(frozen=True, slots=True, eq=False)
class CameraSettings:
    """What one camera has for itself, beside the device's shared parts."""

    first_result_s: float
    """From a frame's capture to its first result, at the latest."""
    policy: Policy
    """Which frames are sent."""
    report_threshold: float
    """What the policy takes for reported."""
    report: ReportFilter
    """Which boxes are reported."""
    temporal: TemporalStage
    redact: Redact | None
    """Hides what must not leave the device; every frame that is sent or spooled passes it."""
    mask: MaskFrame | None = None
    """Hides parts of the picture from the edge's own model too; None: nothing."""
    events: ObjectEvents | None = None
    """What tracked objects do; None where nobody asks."""
    late_window_s: float = 0.0
    """How long after its deadline the answer to a frame is still accepted."""
    variant: int = 0
    """Which of the device's models answers: 0 the model itself, else one of its variants."""
    refresh_s: float = 0.0
    """While nothing changes the model looks once in this time; 0: at every frame."""


@dataclass(frozen=True, slots=True, eq=False)
class Looked:
    """A frame, as the local model sees it, and what the model said."""

    frame: Frame
    settings: CameraSettings
    """`Pipeline.settings` at that time."""
    camera: CameraSettings
    """What it is processed with, so that no frame meets half a reload."""
    seen: Prediction
    """All that the model sees, classes that nobody wants too: what redaction goes by."""
    model: ModelId
    steps: StepTimings
    taken_s: float
    reused_from: str
    """The frame that the model looked at, where it did not look at this one."""


@dataclass(frozen=True, slots=True, eq=False)
class FrameJob:
    """A frame that the local model has looked at, and what follows from that."""

    looked: Looked
    prediction: Prediction
    """What is wanted of what the model sees."""
    shown: Shown
    """What the temporal stage makes of the prediction: what the local result says."""
    deadline_s: float
    """Monotonic; the first result is out by then."""

    @property
    def frame(self) -> Frame:
        """The frame, as the local model sees it."""
        return self.looked.frame

    @property
    def tracks(self) -> TrackSummary | None:
        """What the policy reads of the tracks; None where nothing is tracked, as on unrelated pictures."""
        is_tracked = self.shown.tracks is not None and not self.shown.summary.fresh
        return self.shown.summary if is_tracked else None


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """A frame for somebody who watches: by reference, so that making one costs nothing."""

    job: FrameJob
    result: Result
    """What the edge itself says of the frame."""
    settings: CameraSettings
    """As `Pipeline.settings` at that time. Where these are others now, the frame is not to be shown."""

    def shown(self) -> Frame:
        """The frame as it may be shown, which is as it may leave the device; for any thread."""
        return _redacted(self.job, self.result, self.settings.redact)


OnLook = Callable[[Look], None]
OnAnswer = Callable[[str, Prediction], None]
"""Gets the frame and the cloud's answer to it, as it will be in the result that follows."""


def _redacted(job: FrameJob, result: Result, redact: Redact | None) -> Frame:
    """The frame without what must neither leave the device nor be shown."""
    if redact is None:
        return job.frame
    return redact(job.frame, job.looked.seen, result.prediction, job.shown.followed)


class Pipeline:
    """Takes the frames of one camera through model and policy, one at a time.

    One thread calls `look`, and that one or another `conclude`, in the same order.
    `camera` is what it begins with, `variants` what belongs to each of the device's smaller models.
    """

    def __init__(self, device: Device, camera: CameraSettings, *variants: CameraSettings) -> None:
        self._device = device
        self._camera = self._looks_with = camera
        self._choices = (camera, *variants)
        self._variant = 0
        self._on_look: tuple[OnLook, ...] = ()
        self._on_answer: tuple[OnAnswer, ...] = ()
        self._scene = Scene()
        self._last_look = LastLook()
        self.reused = 0
        """Frames that the model did not look at, since nothing had changed."""
        self._waits = False

    @property
    def settings(self) -> CameraSettings:
        """What the next frame is processed with, where the device's model itself answers."""
        return self._choices[0]

    @property
    def choices(self) -> tuple[CameraSettings, ...]:
        """The same with each of the device's models; all hide, follow and tell alike."""
        return self._choices

    @property
    def in_use(self) -> CameraSettings:
        """The same with the model that answers."""
        return self._choices[self._variant]

    @property
    def tracking(self) -> TrackingCounts | None:
        """What the camera's tracker has done; None where nothing is tracked."""
        return self.settings.temporal.counts()

    def reconfigure(self, camera: CameraSettings, *variants: CameraSettings) -> None:
        """Go on with other settings from the next frame on; may be called on any thread."""
        self._choices = (camera, *variants)

    def use(self, variant: int) -> None:
        """Go on with that model, and what belongs to it, from the next frame on; likewise."""
        self._variant = variant

    def watch(self, on_look: OnLook) -> None:
        """Have every frame shown to `on_look` too, which must not block; before the first one."""
        self._on_look = (*self._on_look, on_look)

    def listen(self, on_answer: OnAnswer) -> None:
        """Have every answer of the cloud told to `on_answer`, which must not block; before the first one."""
        self._on_answer = (*self._on_answer, on_answer)

    def process(self, frame: Frame) -> None:
        """Answer one frame, or promise that it will be answered. Raises ModelError."""
        self.conclude(self.look(frame))

    def look(self, frame: Frame) -> Looked:
        """Ask the local model. Raises ModelError."""
        taken_s = time.monotonic()
        choices = self._choices  # once a frame, so that none meets half a reload
        if self._looks_with is not (camera := choices[self._variant]):
            self._looks_with = camera
            self._last_look.forget()
        if camera.mask:
            frame = camera.mask(frame)
        predictor = self._device.predictor
        predict = partial(predictor.predict, variant=camera.variant)
        seen, steps, reused_from = self._last_look.answer(frame, predict, camera.refresh_s)
        self.reused += bool(reused_from)
        model = predictor.model_of(camera.variant)
        return Looked(frame, choices[0], camera, seen, model, steps, taken_s, reused_from)

    def conclude(self, looked: Looked) -> None:
        """Answer a frame that the model has looked at, or promise that it will be answered."""
        self._camera = looked.camera
        job = self._correct(looked)
        decision = self._decide(job)
        result = self._local_result(job, decision)
        for on_look in self._on_look:
            on_look(Look(job, result, job.looked.settings))
        if self._camera.events:  # whoever watches has seen the frame in which they happen
            self._camera.events.see(job.frame, job.shown)
        self._device.auditor.decided(result)
        match decision.action:
            case Action.KEEP:
                self._answer(result)
            case Action.SPOOL:
                self._answer(result)
                self._keep_for_later(job, result)
            case _:
                self._offload(job, result)

    def _correct(self, looked: Looked) -> FrameJob:
        """What the model said, corrected by the cloud: whatever follows, there is a result."""
        frame = looked.frame
        prediction = self._camera.report.wanted(looked.seen)
        shown = self._camera.temporal.correct(prediction, frame.image, frame.captured_monotonic_s)
        shown = self._camera.report.shown(shown)
        deadline_s = frame.captured_monotonic_s + self._camera.first_result_s
        return FrameJob(looked, prediction, shown, deadline_s)

    def _decide(self, job: FrameJob) -> Decision:
        """Gather what the policy's rules read, and apply them."""
        device, camera, frame = self._device, self._camera, job.frame
        now_s = time.monotonic()
        self._scene, surroundings = watch(
            self._scene, frame.image, job.prediction, camera.report_threshold, frame.captured_monotonic_s
        )
        context = Context(
            score=camera.policy.score(job.prediction),
            time_left_s=job.deadline_s - time.monotonic(),
            link=device.offload.uplink.link(frame.camera_id),
            now_s=now_s,
            threshold=device.auditor.threshold,
            surroundings=surroundings,
            since_last_offload_s=camera.temporal.since_last_offload_s(frame.captured_monotonic_s),
            tracks=job.tracks,
            waits=self._waits,
            late_window_s=camera.late_window_s,
        )
        decision = camera.policy.decide(context)
        self._waits = waits_after(decision, before=self._waits)
        return decision

    def _local_result(self, job: FrameJob, decision: Decision) -> Result:
        """What the edge itself says of the frame."""
        frame, looked, steps, shown = job.frame, job.looked, job.looked.steps, job.shown
        return Result(
            frame_id=frame.frame_id,
            camera_id=frame.camera_id,
            sequence=frame.sequence,
            captured_unix_s=frame.captured_unix_s,
            source=frame.source,
            answered_by=AnsweredBy.EDGE_DEGRADED if decision.degraded else AnsweredBy.EDGE,
            prediction=self._reported(shown),
            model=looked.model,
            decision=decision,
            timings=Timings(
                capture_s=frame.read_s,
                queue_s=max(0.0, looked.taken_s - frame.captured_monotonic_s - frame.read_s),
                preprocess_s=steps.preprocess_s,
                infer_s=steps.infer_s,
                decode_s=steps.decode_s,
                total_s=time.monotonic() - frame.captured_monotonic_s,
            ),
            error=decision.reason if decision.degraded else "",
            carried_from=shown.carried_from,
            reused_from=looked.reused_from,
            tracks=shown.tracks,
            step=shown.step,
        )

    def _reported(self, shown: Shown) -> Prediction:
        """Tracks are chosen already; of plain boxes those of enough confidence are shown."""
        if shown.tracks is not None:
            return shown.prediction
        return self._camera.report.reported(shown.prediction)

    def _answer(self, result: Result) -> None:
        self._device.reporting.events.result(result)

    def _keep_for_later(self, job: FrameJob, result: Result) -> None:
        """Let the frame wait on the disk for a late answer."""
        if forwarder := self._device.offload.forwarder:
            forwarder.store(_redacted(job, result, self._camera.redact), result)

    def _offload(self, job: FrameJob, result: Result) -> None:
        """Send the frame; its reply goes to the temporal correction, then to the table of deadlines."""
        frame, decision = job.frame, result.decision
        outgoing = _redacted(job, result, self._camera.redact)
        at_once = PROBE if decision.is_probe else EXPECTED_LATE if decision.serves_later else ""
        pending = self._device.deadlines.register(
            result, frame.captured_monotonic_s, job.deadline_s, at_once=at_once
        )
        correct_later = self._camera.temporal.sent(frame.frame_id, frame.captured_monotonic_s, job.prediction)
        handler = Replies(pending, self._with_events(job, correct_later), self._on_answer)
        self._device.offload.uplink.send(
            outgoing,
            job.deadline_s,
            handler,
            decision.payload,
            useful_until_s=self._useful_until_s(job),
        )

    def _with_events(self, job: FrameJob, correct_later: OnReply) -> OnReply:
        """The reply corrects the tracks, and these settle the events."""
        if self._camera.events is None:
            return correct_later
        settle = self._camera.events.sent(job.frame, job.shown)
        return lambda outcome: settle(correct_later(outcome))

    def _useful_until_s(self, job: FrameJob) -> float:
        """When the cloud's answer will be of little use, on the clock of `time.monotonic`."""
        now_s = time.monotonic()
        return now_s + useful_s(job.tracks, job.deadline_s - now_s, self._camera.late_window_s)


@dataclass(frozen=True, slots=True, eq=False)
class Replies:
    """The `ReplyHandler` of a sent frame: passes each event on to everything that waits for the reply."""

    pending: PendingFrame
    first: OnReply
    on_answer: Sequence[OnAnswer] = ()

    def encoded(self, payload_bytes: int, encode_s: float) -> None:
        """Note the payload in the frame's result."""
        self.pending.encoded(payload_bytes, encode_s)

    def fall_back(self, option: str, reason: str) -> None:
        """Note in the frame's result that a picture leaves in place of features or video."""
        self.pending.fall_back(option, reason)

    def complete(self, outcome: CallOutcome) -> None:
        """Pass the reply on, and end the pending frame whatever happens."""
        try:
            outcome = self.first(outcome)
            if isinstance(outcome, CloudAnswer):
                for told in self.on_answer:  # here, because the table's lock holds up other frames
                    told(self.pending.local.frame_id, outcome.prediction)
        finally:
            self.pending.complete(outcome)
