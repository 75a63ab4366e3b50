"""The order of the stages, here alone: frame -> local prediction -> decision -> result, or uplink."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from spillover.common.images import Region
from spillover.common.types import (
    Action,
    AnsweredBy,
    Decision,
    Detections,
    Frame,
    Image,
    Prediction,
    Result,
    Timings,
)
from spillover.edge.inference.predictor import Predictor
from spillover.edge.inference.scene import Scene, watch
from spillover.edge.inference.temporal import TemporalCorrector
from spillover.edge.link.state import BreakerPhase
from spillover.edge.payload.crops import Crop, crop_of
from spillover.edge.policy.auditor import Auditor
from spillover.edge.policy.base import HELD_BACK, Context, Policy
from spillover.edge.results.deadlines import DeadlineTable
from spillover.edge.uplink.base import Uplink
from spillover.edge.uplink.outcome import ReplyHandler


@dataclass(frozen=True, slots=True)
class Stages:
    """What a frame passes, in this order."""

    model: Predictor
    policy: Policy
    uplink: Uplink
    answers: DeadlineTable
    emit: Callable[[Result], None]
    """Takes the results of frames that were not sent; must not block."""
    keep: Callable[[Frame, Result], None]
    """Takes frames that wait on the disk for a late answer; must not block."""
    auditor: Auditor
    temporal: TemporalCorrector
    region: Callable[[Prediction, Image], Region | None]
    """What a crop of this frame would show."""
    redact: Callable[[Frame, Prediction], Frame]
    """Hides what must not leave the device; every frame that is sent or kept passes it."""


def nothing_kept(frame: Frame, result: Result) -> None:
    """What `Stages.keep` is where the policy never spools."""
    del frame, result


class Pipeline:
    """Takes one frame at a time through the stages.

    `deadline_s` counts from capture, and the first result is out `margin_s` before it. `report_threshold`
    is the confidence from which boxes are reported; the policy sees them all.
    """

    def __init__(self, stages: Stages, deadline_s: float, margin_s: float, report_threshold: float) -> None:
        self._stages = stages
        self._promise_s = deadline_s - margin_s
        self._report_threshold = report_threshold
        self._scene = Scene()

    def process(self, frame: Frame) -> None:
        """Answer one frame, or promise that it will be answered. Raises ModelError."""
        stages = self._stages
        taken_s = time.monotonic()
        prediction, steps = stages.model.predict(frame.image)
        deadline_s = frame.captured_monotonic_s + self._promise_s
        now = time.monotonic()
        self._scene, surroundings = watch(
            self._scene, frame.image, prediction, self._report_threshold, frame.captured_monotonic_s
        )
        region = stages.region(prediction, frame.image)
        context = Context(
            time_left_s=deadline_s - time.monotonic(),
            link=stages.uplink.link(region.share_of(frame.image) if region else 0.0),
            now_s=now,
            threshold=stages.auditor.threshold,
            surroundings=surroundings,
            region=region,
            since_last_offload_s=stages.temporal.since_last_offload_s(frame.captured_monotonic_s),
        )
        decision = stages.policy.decide(prediction, context)
        held_back = decision.reason in HELD_BACK
        shown = stages.temporal.correct(prediction, frame.image, frame.captured_monotonic_s)
        result = Result(
            frame_id=frame.frame_id,
            camera_id=frame.camera_id,
            sequence=frame.sequence,
            captured_unix_s=frame.captured_unix_s,
            source=frame.source,
            answered_by=AnsweredBy.EDGE_DEGRADED if held_back else AnsweredBy.EDGE,
            prediction=_reported(shown.prediction, self._report_threshold),
            model=stages.model.model_id,
            decision=decision,
            timings=Timings(
                capture_s=frame.read_s,
                queue_s=max(0.0, taken_s - frame.captured_monotonic_s - frame.read_s),
                preprocess_s=steps.preprocess_s,
                infer_s=steps.infer_s,
                decode_s=steps.decode_s,
                total_s=time.monotonic() - frame.captured_monotonic_s,
            ),
            error=decision.reason if held_back else "",
            carried_from=shown.carried_from,
        )
        stages.auditor.decided(result)
        if decision.action is Action.KEEP:
            stages.emit(result)
            return
        outgoing = stages.redact(frame, prediction)
        if decision.action is Action.SPOOL:
            stages.emit(result)
            stages.keep(outgoing, result)
        else:
            probe = context.link.breaker is not BreakerPhase.CLOSED
            handler: ReplyHandler = stages.answers.register(
                result, frame.captured_monotonic_s, deadline_s, probe=probe
            )
            handler = stages.temporal.watch(handler, frame.frame_id, frame.captured_monotonic_s, prediction)
            crop = _crop(decision, region, _reported(prediction, self._report_threshold))
            stages.uplink.send(outgoing, deadline_s, handler, decision.payload, crop)


def _crop(decision: Decision, region: Region | None, reported: Prediction) -> Crop | None:
    if decision.action is not Action.SEND_CROPS or region is None or not isinstance(reported, Detections):
        return None
    return crop_of(region, reported)


def _reported(prediction: Prediction, threshold: float) -> Prediction:
    if not isinstance(prediction, Detections):
        return prediction
    kept = prediction.confidence >= threshold
    if kept.all():
        return prediction
    return Detections(prediction.xyxy[kept], prediction.confidence[kept], prediction.class_id[kept])
