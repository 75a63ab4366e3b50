"""Builds the parts of one camera on top of the parts that the device shares."""

import os
from contextlib import ExitStack
from pathlib import Path

from msgspec.structs import asdict, replace

from spillover.common.errors import ConfigError, SourceError
from spillover.common.model.session import Model
from spillover.common.net.reload import warn_if_exposed
from spillover.edge.assembly.policy import policy_for, report_threshold
from spillover.edge.assembly.temporal import build_temporal
from spillover.edge.camera.camera import Camera
from spillover.edge.camera.open import is_live, open_camera
from spillover.edge.camera.reconnecting import ResilientSource
from spillover.edge.camera.source import Source
from spillover.edge.config import CameraConfig, EdgeConfig
from spillover.edge.device import Device, Run
from spillover.edge.payload.redaction import build_redaction, hidden_classes
from spillover.edge.pipeline import CameraSettings, Pipeline
from spillover.edge.policy.chain import Policy
from spillover.edge.policy.scores import ScoreSettings
from spillover.edge.stream import CameraStream
from spillover.edge.telemetry.metrics import FrameEvents


def build_camera_stream(
    run: Run, config: CameraConfig, model: Model, device: Device, opened: ExitStack
) -> CameraStream:
    """Open the camera of `config`; what has to be closed should a later part fail goes on `opened`.

    Raises:
        ConfigError: a value does not fit the model.
        SourceError: a file cannot be opened as camera, or a live one that is required.
    """
    settings = settings_for(run.config, config, model, device.policy)
    events = device.reporting.events
    try:
        source = _source(config, events, required=run.require_camera)
    except SourceError as error:
        if run.config.cameras:
            raise SourceError(f"{config.camera_id}: {error}") from error
        raise
    opened.callback(source.close)
    # Without threads cameras would wait for each other's reads.
    read_ahead = len(os.sched_getaffinity(0)) > 1 or bool(run.config.cameras)
    camera = Camera(source, config, run.boot_id, events, events.frame_clock, read_ahead=read_ahead)
    return CameraStream(config.camera_id, source, camera, Pipeline(device, settings))


def for_camera(config: EdgeConfig, camera: CameraConfig) -> EdgeConfig:
    """The device's configuration with what one camera has in its place."""
    if camera.policy is None:
        return replace(config, redaction=camera.redaction or config.redaction)
    own = {key: value for key, value in asdict(camera.policy).items() if value is not None}
    if camera.policy.chooses:
        own = {"send_share": None, "threshold": None} | own
    policy = replace(config.policy, **own)
    return replace(config, policy=policy, redaction=camera.redaction or config.redaction)


def settings_for(config: EdgeConfig, camera: CameraConfig, model: Model, policy: Policy) -> CameraSettings:
    """What `config` says of each frame of one camera; `policy` is that of cameras without their own.

    Raises:
        ConfigError: a value does not fit the model.
    """
    task, threshold = model.folder.task, report_threshold(config, model)
    crops = any(variant.crop for variant in config.uplink.variants)
    own = for_camera(config, camera)
    redact = build_redaction(own.redaction, model.folder.labels, task, model.class_count)
    hidden = hidden_classes(own.redaction, model.folder.labels, model.class_count)
    return CameraSettings(
        first_result_s=config.deadline_s - config.deadline_margin_s,
        policy=policy_for(own, model, camera.camera_id) if camera.policy else policy,
        report_threshold=threshold,
        temporal=build_temporal(config, task, threshold, hidden),
        redact=redact,
        crops=ScoreSettings(threshold, own.policy.band) if crops else None,
    )


def _source(config: CameraConfig, events: FrameEvents, *, required: bool) -> Source:
    """The camera; a live one is opened when it runs, as often as it takes, and here already if `required`."""
    if config.password_file:
        warn_if_exposed("camera.password_file", Path(config.password_file).expanduser())
    if not is_live(config.source):
        return open_camera(config)
    return ResilientSource(
        lambda: _open_again(config),
        lambda state, detail: events.camera(config.camera_id, state, detail),
        config.frozen_after_s,
        source=open_camera(config) if required else None,
    )


def _open_again(config: CameraConfig) -> Source:
    """As `open_camera`; a password file that is gone for a moment is no reason to end."""
    try:
        return open_camera(config)
    except ConfigError as error:
        raise SourceError(str(error)) from error
