"""Processes one frame: infer -> decide -> answer at once, or offload."""

import time
from dataclasses import dataclass

from spillover.common.model.session import StepTimings
from spillover.common.types import (
    Action,
    AnsweredBy,
    Decision,
    Frame,
    Prediction,
    Region,
    Result,
    Timings,
)
from spillover.edge.device import Device
from spillover.edge.inference.scene import Scene, watch
from spillover.edge.payload.crops import Crop, crop_of
from spillover.edge.payload.redaction import Redact
from spillover.edge.policy.base import Context
from spillover.edge.policy.chain import Policy
from spillover.edge.policy.scores import ScoreSettings, doubtful_region
from spillover.edge.results.deadlines import PendingFrame
from spillover.edge.tracking.stage import OnReply, Shown, TemporalStage, TrackingCounts
from spillover.edge.uplink.outcome import CallOutcome


@dataclass(frozen=True, slots=True, eq=False)
class CameraSettings:
    """What one camera has for itself, beside the device's shared parts."""

    first_result_s: float
    """From a frame's capture to its first result, at the latest."""
    policy: Policy
    """Which frames are sent."""
    report_threshold: float
    """Boxes from this confidence on are reported; the policy sees them all."""
    temporal: TemporalStage
    redact: Redact | None
    """Hides what must not leave the device; every frame that is sent or spooled passes it."""
    crops: ScoreSettings | None
    """Which boxes are in doubt, where crops around them may be sent."""


@dataclass(frozen=True, slots=True, eq=False)
class FrameJob:
    """A frame with the local model's prediction of it."""

    frame: Frame
    prediction: Prediction
    shown: Shown
    """What the temporal stage makes of the prediction: what the local result says."""
    steps: StepTimings
    taken_s: float
    deadline_s: float
    """Monotonic; the first result is out by then."""


class Pipeline:
    """Takes the frames of one camera through model and policy, one at a time."""

    def __init__(self, device: Device, camera: CameraSettings) -> None:
        self._device = device
        self._camera = self._wanted = camera
        self._scene = Scene()

    @property
    def settings(self) -> CameraSettings:
        """What the next frame is processed with."""
        return self._wanted

    @property
    def tracking(self) -> TrackingCounts | None:
        """What the camera's tracker has done; None where nothing is tracked."""
        return self._wanted.temporal.counts()

    def reconfigure(self, camera: CameraSettings) -> None:
        """Go on with other settings from the next frame on; may be called on any thread."""
        self._wanted = camera

    def process(self, frame: Frame) -> None:
        """Answer one frame, or promise that it will be answered. Raises ModelError."""
        self._camera = self._wanted  # once a frame, so that none meets half a reload
        job = self._infer(frame)
        decision = self._decide(job)
        result = self._local_result(job, decision)
        self._device.auditor.decided(result)
        match decision.action:
            case Action.KEEP:
                self._answer(result)
            case Action.SPOOL:
                self._answer(result)
                self._keep_for_later(job, result)
            case _:
                self._offload(job, result)

    def _infer(self, frame: Frame) -> FrameJob:
        """Ask the local model, corrected by the cloud: whatever follows, there is a result."""
        taken_s = time.monotonic()
        prediction, steps = self._device.predictor.predict(frame.image)
        shown = self._camera.temporal.correct(prediction, frame.image, frame.captured_monotonic_s)
        deadline_s = frame.captured_monotonic_s + self._camera.first_result_s
        return FrameJob(frame, prediction, shown, steps, taken_s, deadline_s)

    def _decide(self, job: FrameJob) -> Decision:
        """Gather what the policy's rules read, and apply them."""
        device, camera, frame = self._device, self._camera, job.frame
        now_s = time.monotonic()
        self._scene, surroundings = watch(
            self._scene, frame.image, job.prediction, camera.report_threshold, frame.captured_monotonic_s
        )
        region = self._region(job)
        context = Context(
            score=camera.policy.score(job.prediction),
            time_left_s=job.deadline_s - time.monotonic(),
            link=device.offload.uplink.link(region.share_of(frame.image) if region else 0.0),
            now_s=now_s,
            threshold=device.auditor.threshold,
            surroundings=surroundings,
            region=region,
            since_last_offload_s=camera.temporal.since_last_offload_s(frame.captured_monotonic_s),
        )
        return camera.policy.decide(context)

    def _region(self, job: FrameJob) -> Region | None:
        settings = self._camera.crops
        return doubtful_region(job.prediction, job.frame.image, settings) if settings else None

    def _local_result(self, job: FrameJob, decision: Decision) -> Result:
        """What the edge itself says of the frame."""
        frame, steps, shown = job.frame, job.steps, job.shown
        return Result(
            frame_id=frame.frame_id,
            camera_id=frame.camera_id,
            sequence=frame.sequence,
            captured_unix_s=frame.captured_unix_s,
            source=frame.source,
            answered_by=AnsweredBy.EDGE_DEGRADED if decision.degraded else AnsweredBy.EDGE,
            prediction=self._reported(shown),
            model=self._device.predictor.model_id,
            decision=decision,
            timings=Timings(
                capture_s=frame.read_s,
                queue_s=max(0.0, job.taken_s - frame.captured_monotonic_s - frame.read_s),
                preprocess_s=steps.preprocess_s,
                infer_s=steps.infer_s,
                decode_s=steps.decode_s,
                total_s=time.monotonic() - frame.captured_monotonic_s,
            ),
            error=decision.reason if decision.degraded else "",
            carried_from=shown.carried_from,
            tracks=shown.tracks,
            step=shown.step,
        )

    def _reported(self, shown: Shown) -> Prediction:
        """Tracks are chosen already; of plain boxes those from the report threshold up are shown."""
        if shown.tracks is not None:
            return shown.prediction
        return shown.prediction.above(self._camera.report_threshold)

    def _answer(self, result: Result) -> None:
        self._device.reporting.events.result(result)

    def _keep_for_later(self, job: FrameJob, result: Result) -> None:
        """Let the frame wait on the disk for a late answer."""
        if forwarder := self._device.offload.forwarder:
            forwarder.store(self._redacted(job), result)

    def _offload(self, job: FrameJob, result: Result) -> None:
        """Send the frame; its reply goes to the temporal correction, then to the table of deadlines."""
        frame, decision = job.frame, result.decision
        outgoing = self._redacted(job)
        pending = self._device.deadlines.register(
            result, frame.captured_monotonic_s, job.deadline_s, probe=decision.is_probe
        )
        correct_later = self._camera.temporal.sent(frame.frame_id, frame.captured_monotonic_s, job.prediction)
        handler = Replies(pending, first=correct_later)
        self._device.offload.uplink.send(
            outgoing, job.deadline_s, handler, decision.payload, self._crop(job, decision)
        )

    def _redacted(self, job: FrameJob) -> Frame:
        redact = self._camera.redact
        if redact is None:
            return job.frame
        return redact(job.frame, job.prediction, self._reported(job.shown), job.shown.followed)

    def _crop(self, job: FrameJob, decision: Decision) -> Crop | None:
        if decision.region is None:
            return None
        boxes = self._reported(job.shown).boxes
        return crop_of(decision.region, boxes) if boxes is not None else None


@dataclass(frozen=True, slots=True, eq=False)
class Replies:
    """The `ReplyHandler` of a sent frame: passes each event on to everything that waits for the reply."""

    pending: PendingFrame
    first: OnReply

    def encoded(self, payload_bytes: int, encode_s: float) -> None:
        """Note the payload in the frame's result."""
        self.pending.encoded(payload_bytes, encode_s)

    def fall_back(self, option: str, reason: str) -> None:
        """Note in the frame's result that a picture leaves in place of features."""
        self.pending.fall_back(option, reason)

    def complete(self, outcome: CallOutcome) -> None:
        """Pass the reply on, and end the pending frame whatever happens."""
        try:
            outcome = self.first(outcome)
        finally:
            self.pending.complete(outcome)
