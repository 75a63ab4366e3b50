"""The parts of a daemon, built from its configuration in the order in which they need each other."""

import os
import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from spillover.common.images import Region
from spillover.common.model.locate import find_model_folder
from spillover.common.model.manifest import Task
from spillover.common.model.session import Model
from spillover.common.types import Image, ModelId, Prediction
from spillover.edge.assembly.offload import Sending, SendingBuilder
from spillover.edge.assembly.policy import build_policy
from spillover.edge.assembly.sinks import build_outlets
from spillover.edge.camera.camera import Camera
from spillover.edge.camera.open import open_source
from spillover.edge.camera.reconnecting import ResilientSource
from spillover.edge.camera.source import Source
from spillover.edge.config import CameraConfig, EdgeConfig, Mode
from spillover.edge.inference.guarded import GuardedPredictor
from spillover.edge.inference.multi_view import MultiViewPredictor
from spillover.edge.inference.predictor import Predictor
from spillover.edge.inference.temporal import build_temporal
from spillover.edge.payload.redaction import build_redaction
from spillover.edge.pipeline import Pipeline, Stages, nothing_kept
from spillover.edge.policy.auditor import Auditor
from spillover.edge.policy.base import Policy
from spillover.edge.policy.gain import EdgeSide
from spillover.edge.policy.region import doubtful_region, no_region
from spillover.edge.policy.scores import ScoreSettings
from spillover.edge.results.deadlines import DeadlineTable
from spillover.edge.runtime.worker import Ended
from spillover.edge.sinks.outlets import Outlets
from spillover.edge.telemetry.metrics import FrameEvents, Metrics


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """What a daemon starts, runs and stops. Nothing of it runs yet."""

    model_id: ModelId
    metrics: Metrics
    outlets: Outlets
    events: FrameEvents
    source: Source
    camera: Camera
    sending: Sending
    auditor: Auditor
    answers: DeadlineTable
    watch: GuardedPredictor
    pipeline: Pipeline


def assemble(
    config: EdgeConfig, boot_id: str, record_link: Path | None, tell: Callable[[Ended], None]
) -> Parts:
    """Build the parts; one that ends by itself tells `tell`. Where one cannot be built, none stays open.

    Raises:
        ConfigError: a value does not fit the model, or a sink cannot be opened.
        ModelError: the model folder is damaged.
        SourceError: the camera cannot be opened.
    """
    with ExitStack() as opened:
        parts = _assemble(config, boot_id, record_link, tell, opened)
        opened.pop_all()
    return parts


def _assemble(
    config: EdgeConfig,
    boot_id: str,
    record_link: Path | None,
    tell: Callable[[Ended], None],
    opened: ExitStack,
) -> Parts:
    model = Model.load(find_model_folder(config.model.folder), config.model.session)
    threshold = config.model.report_threshold
    if threshold is None:
        threshold = model.manifest.output.confidence_threshold
    policy = _policy(config, model, threshold)
    temporal = build_temporal(config.temporal, model.manifest.task)
    redact = build_redaction(
        config.redaction,
        model.folder.labels,
        detects=model.manifest.task is Task.DETECTION,
        class_count=model.class_count,
    )
    metrics = Metrics()
    outlets = Outlets(
        build_outlets(config, model.folder.labels, metrics.result_dropped, metrics.event_dropped), tell
    )
    opened.callback(outlets.discard)
    events = FrameEvents(metrics, outlets.put)
    source = _source(config.camera, events)
    opened.callback(source.close)
    read_ahead = len(os.sched_getaffinity(0)) > 1
    sending = SendingBuilder(config, model, boot_id, events, metrics, tell).build(record_link)
    opened.callback(lambda: sending.stop(time.monotonic() + 5.0))
    forwarder = sending.forwarder
    auditor = Auditor(config.policy.agree_from, threshold, config.policy.max_error, metrics.edge_error)
    rescue = forwarder.store_encoded if forwarder else None
    answers = DeadlineTable(events.result, time.monotonic, rescue, auditor.answered)
    watch = GuardedPredictor(_looking(config, sending.backbone or model))
    stages = Stages(
        model=watch,
        policy=policy,
        uplink=sending.uplink,
        answers=answers,
        emit=events.result,
        keep=forwarder.store if forwarder else nothing_kept,
        auditor=auditor,
        temporal=temporal,
        region=_region(config, threshold),
        redact=redact,
    )
    return Parts(
        model_id=model.model_id,
        metrics=metrics,
        outlets=outlets,
        events=events,
        source=source,
        camera=Camera(source, config.camera, boot_id, events, read_ahead=read_ahead),
        sending=sending,
        auditor=auditor,
        answers=answers,
        watch=watch,
        pipeline=Pipeline(stages, config.deadline_s, config.deadline_margin_s, threshold),
    )


def _policy(config: EdgeConfig, model: Model, report_threshold: float) -> Policy:
    draw = random.Random(config.policy.seed).random  # noqa: S311 - a sample of frames, not a secret
    spool = config.spool if config.mode is not Mode.EDGE_ONLY else None
    return build_policy(
        config.mode,
        config.policy,
        model.manifest.task,
        report_threshold,
        draw,
        spool.min_gain if spool else None,
        config.temporal,
        EdgeSide.of(model.manifest, config.model.multi_view),
    )


def _region(config: EdgeConfig, report_threshold: float) -> Callable[[Prediction, Image], Region | None]:
    if not any(variant.crop for variant in config.uplink.variants):
        return no_region
    return partial(doubtful_region, settings=ScoreSettings(report_threshold, config.policy.band))


def _looking(config: EdgeConfig, plain: Predictor) -> Predictor:
    look = config.model.multi_view
    return MultiViewPredictor(plain, look.below, look.zoom) if look else plain


def _source(config: CameraConfig, events: FrameEvents) -> Source:
    """The camera; a live one is opened again whenever it is lost, once it could be opened at all."""
    source = open_source(config.source)
    if not source.live:
        return source
    return ResilientSource(
        source,
        lambda: open_source(config.source),
        lambda state, detail: events.camera(config.camera_id, state, detail),
        config.frozen_after_s,
    )
