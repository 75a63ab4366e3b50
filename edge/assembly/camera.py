"""Builds the parts of one camera on top of the parts that the device shares."""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from msgspec.structs import asdict, replace

from spillover.common.errors import ConfigError, SourceError
from spillover.common.model.pictures import VisionModel
from spillover.common.net.reload import warn_if_exposed
from spillover.edge.assembly.events import build_events
from spillover.edge.assembly.policy import policy_for, report_filter, report_threshold
from spillover.edge.assembly.temporal import build_temporal
from spillover.edge.assembly.variants import of_variant, with_variant
from spillover.edge.camera.camera import Camera
from spillover.edge.camera.open import is_live, open_camera
from spillover.edge.camera.reconnecting import ResilientSource
from spillover.edge.camera.source import Source
from spillover.edge.config import CameraConfig, EdgeConfig, FrameRateConfig
from spillover.edge.device import Device, Run
from spillover.edge.payload.masks import build_masks
from spillover.edge.payload.redaction import build_redaction, hidden_classes
from spillover.edge.pipeline import CameraSettings, Pipeline
from spillover.edge.policy.chain import Policy
from spillover.edge.stream import CameraStream
from spillover.edge.telemetry.frame_events import FrameEvents


def build_camera_stream(
    run: Run, config: CameraConfig, model: VisionModel, device: Device, opened: ExitStack
) -> CameraStream:
    """Open the camera of `config`; what has to be closed should a later part fail goes on `opened`.

    Raises:
        ConfigError: a value does not fit the model.
        SourceError: a file cannot be opened as camera, or a live one that is required.
    """
    settings = settings_for(run.config, config, model, device.policies[0])
    variants = variant_settings(run.config, config, device, device.policies)
    events = device.reporting.events
    told = build_events(run.config, config, model, events.happened)
    settings = dataclasses.replace(settings, events=told)
    try:
        source = _source(config, events, required=run.require_camera)
    except (SourceError, ConfigError) as error:
        text = str(error).removeprefix("camera.")
        raise type(error)(f"{run.config.key_of(config)}.{text}") from error
    opened.callback(source.close)
    # Without threads cameras would wait for each other's reads.
    read_ahead = len(os.sched_getaffinity(0)) > 1 or bool(run.config.cameras)
    camera = Camera(source, config, run.boot_id, events, events.frame_clock, read_ahead=read_ahead)
    pipeline = Pipeline(device, settings, *(sharing(settings, one) for one in variants))
    return CameraStream(config.camera_id, source, camera, pipeline)


def for_camera(config: EdgeConfig, camera: CameraConfig) -> EdgeConfig:
    """The device's configuration with what one camera has in its place."""
    if camera.policy is None:
        return replace(config, redaction=camera.redaction or config.redaction)
    own = {key: value for key, value in asdict(camera.policy).items() if value is not None}
    if camera.policy.chooses:
        own = {"send_share": None, "threshold": None} | own
    policy = replace(config.policy, **own)
    return replace(config, policy=policy, redaction=camera.redaction or config.redaction)


def settings_for(
    config: EdgeConfig, camera: CameraConfig, model: VisionModel, policy: Policy
) -> CameraSettings:
    """What `config` says of each frame of one camera; `policy` is that of cameras without their own.

    Raises:
        ConfigError: a value does not fit the model.
    """
    task, threshold = model.folder.task, report_threshold(config, model)
    report = report_filter(config, model)
    own = for_camera(config, camera)
    with own_keys(config, camera):
        hidden = hidden_classes(own.redaction, model.folder.labels, model.class_count)
        return CameraSettings(
            first_result_s=config.deadline_s - config.deadline_margin_s,
            policy=policy_for(own, model, camera.camera_id) if camera.policy else policy,
            report_threshold=threshold,
            report=report,
            temporal=build_temporal(config, task, report.least, hidden),
            redact=build_redaction(own.redaction, model.folder.labels, task, model.class_count),
            mask=build_masks(own.redaction.masks) if own.redaction else None,
            late_window_s=config.uplink.late_answer_window_s,
            refresh_s=_refresh_s(own, camera),
        )


def _refresh_s(own: EdgeConfig, camera: CameraConfig) -> float:
    """How long an answer may be given again; never where it says what is to be hidden."""
    hides = own.redaction is not None and own.redaction.classes
    return camera.fps.refresh_s if isinstance(camera.fps, FrameRateConfig) and not hides else 0.0


def variant_settings(
    config: EdgeConfig, camera: CameraConfig, device: Device, policies: Sequence[Policy]
) -> list[CameraSettings]:
    """What one camera has of its own for each smaller model; the rest is for `sharing` to put in.

    A variant has its own report threshold, calibration and gain, so its policy too.

    Raises:
        ConfigError: a value does not fit a variant. The text names its key.
    """
    found = []
    for variant in range(1, len(device.variants) + 1):
        model, own = device.model_of(variant), with_variant(config, variant)
        with of_variant(variant):
            one = settings_for(own, camera, model, policies[variant])
        found.append(dataclasses.replace(one, variant=variant))
    return found


def sharing(settings: CameraSettings, of_variant: CameraSettings) -> CameraSettings:
    """Those of a variant, but for what goes on whoever answers: tracks and events, and what is hidden."""
    return dataclasses.replace(
        of_variant,
        temporal=settings.temporal,
        events=settings.events,
        redact=settings.redact,
        mask=settings.mask,
    )


@contextmanager
def own_keys(config: EdgeConfig, camera: CameraConfig) -> Iterator[None]:
    """Say in errors where a key stands that one camera has in place of the device's."""
    try:
        yield
    except ConfigError as error:
        section, _, rest = str(error).partition(":")[0].partition(".")
        own = getattr(camera, section, None) if section in {"policy", "redaction"} else None
        if own is None or (section == "policy" and getattr(own, rest, None) is None):
            raise
        raise ConfigError(f"{config.key_of(camera)}.{error}") from error


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
