"""Takes a changed configuration over into a running daemon: between two frames, and all of it or nothing."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace

from spillover.edge.assembly.camera import CameraStream, settings_for
from spillover.edge.assembly.device import policy_for, report_threshold, sink_builder
from spillover.edge.assembly.policy import EXPECTED_GAIN
from spillover.edge.camera.reconnecting import ResilientSource
from spillover.edge.config import EdgeConfig
from spillover.edge.device import Device


def take_over(
    device: Device, streams: Sequence[CameraStream], before: EdgeConfig, wanted: EdgeConfig
) -> bool:
    """Go on with `wanted`, which differs from `before` in keys alone that a running daemon follows.

    Sinks open their files anew, changed or not. Frames under way end as they began: each meets either
    configuration whole.

    Returns:
        False when it was too late, because the stop has begun.

    Raises:
        ConfigError: a value does not fit the model, or a file cannot be read or opened. Nothing has changed.
    """
    model = device.model
    threshold = report_threshold(wanted, model)
    builder = sink_builder(model, device.reporting.metrics)
    decide = [_decider(device, stream, before, wanted) for stream in streams]
    with ExitStack() as opened:
        change_sinks = builder.prepare(device.reporting.outlets, before, wanted, opened)
        if not change_sinks():
            return False
        opened.pop_all()
    for change in decide:
        change()
    policy = wanted.policy
    device.auditor.reconfigure(policy.agree_from, threshold, policy.max_error)
    for stream in streams:
        stream.camera.reconfigure(wanted.camera)
        if isinstance(stream.source, ResilientSource):
            stream.source.reconfigure(wanted.camera.frozen_after_s)
    return True


def _decider(
    device: Device, stream: CameraStream, before: EdgeConfig, wanted: EdgeConfig
) -> Callable[[], None]:
    """What gives a camera's pipeline its new policy and settings."""
    pipeline = stream.pipeline
    settings = settings_for(wanted, device.model)
    if wanted.temporal == before.temporal:
        settings = replace(settings, temporal=pipeline.settings.temporal)  # it knows the last answers
    policy = policy_for(wanted, device.model, settings.report_threshold)
    if _decides_alike(before, wanted):
        policy = pipeline.policy  # it knows how frames rank
    return lambda: pipeline.reconfigure(policy, settings)


def _decides_alike(before: EdgeConfig, wanted: EdgeConfig) -> bool:
    """Whether nothing has changed that a policy is built from; a gain file may have."""
    keys = ("policy", "temporal", "model")
    same = all(getattr(before, key) == getattr(wanted, key) for key in keys)
    return same and wanted.policy.kind != EXPECTED_GAIN
