"""Builds the parts of one camera on top of the parts that the device shares."""

import os
from contextlib import ExitStack
from dataclasses import dataclass

from spillover.common.model.session import Model
from spillover.edge.assembly.device import report_threshold
from spillover.edge.camera.camera import Camera
from spillover.edge.camera.open import open_source
from spillover.edge.camera.reconnecting import ResilientSource
from spillover.edge.camera.source import Source
from spillover.edge.config import CameraConfig, EdgeConfig
from spillover.edge.device import Device, Run
from spillover.edge.inference.temporal import build_temporal
from spillover.edge.payload.redaction import build_redaction
from spillover.edge.pipeline import CameraSettings, Pipeline
from spillover.edge.policy.scores import ScoreSettings
from spillover.edge.telemetry.metrics import FrameEvents


@dataclass(frozen=True, slots=True, eq=False)
class CameraStream:
    """One camera: where its pictures come from, its queue, and the pipeline with its scene and settings."""

    source: Source
    camera: Camera
    pipeline: Pipeline


def build_camera_stream(
    run: Run, config: CameraConfig, model: Model, device: Device, opened: ExitStack
) -> CameraStream:
    """Open the camera of `config`; what has to be closed should a later part fail goes on `opened`.

    Raises:
        ConfigError: a value does not fit the model.
        SourceError: the camera cannot be opened.
    """
    settings = settings_for(run.config, model)
    events = device.reporting.events
    source = _source(config, events)
    opened.callback(source.close)
    read_ahead = len(os.sched_getaffinity(0)) > 1
    camera = Camera(source, config, run.boot_id, events, read_ahead=read_ahead)
    return CameraStream(source, camera, Pipeline(device, settings))


def settings_for(config: EdgeConfig, model: Model) -> CameraSettings:
    """What `config` says of each frame of a camera. Raises ConfigError."""
    task, threshold = model.folder.task, report_threshold(config, model)
    crops = any(variant.crop for variant in config.uplink.variants)
    return CameraSettings(
        first_result_s=config.deadline_s - config.deadline_margin_s,
        report_threshold=threshold,
        temporal=build_temporal(config.temporal, task),
        redact=build_redaction(config.redaction, model.folder.labels, task, model.class_count),
        crops=ScoreSettings(threshold, config.policy.band) if crops else None,
    )


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
