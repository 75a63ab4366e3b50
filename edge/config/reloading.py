"""Which keys of `edge.yaml` a running daemon follows after SIGHUP, and which need a restart."""

import re
from typing import TypeVar

import msgspec

from spillover.common.config import changed_keys
from spillover.common.errors import ConfigError
from spillover.edge.config.daemon import EdgeConfig
from spillover.edge.config.uplink import PayloadKind

FOLLOWED = frozenset(
    {
        "camera.events",
        "camera.fps",
        "camera.frozen_after_s",
        "camera.loop",
        "camera.max_frames",
        "camera.policy",
        "camera.redaction",
        "deadline_margin_s",
        "deadline_s",
        "events",
        "log",
        "model.class_thresholds",
        "model.classes",
        "model.report_threshold",
        "policy.agree_from",
        "policy.audit_share",
        "policy.band",
        "policy.empty_audit_share",
        "policy.gain_file",
        "policy.kind",
        "policy.lost_track_gain",
        "policy.max_error",
        "policy.motion_gain",
        "policy.seed",
        "policy.send_share",
        "policy.threshold",
        "redaction",
        "sinks",
        "temporal",
        "tracking",
    }
)
"""Sections and single keys that are in force once the log says `reloaded`. What is said of `camera` holds for
each of `cameras`, as long as these are the same."""

NEEDS_RESTART = frozenset(
    {
        "camera.camera_id",
        "camera.command",
        "camera.csi",
        "camera.pace",
        "camera.password_file",
        "camera.queue_size",
        "camera.skip_frames",
        "camera.source",
        "cameras",
        "device_id",
        "evidence",
        "health",
        "live_view",
        "metrics_address",
        "mode",
        "model.folder",
        "model.multi_view",
        "model.session",
        "model.variants",
        "policy.budget",
        "security",
        "spool",
        "stop_timeout_s",
        "uplink",
    }
)
"""Sections and single keys that are fixed when the daemon starts. A key is in one of the two, or a section
that it is in is; a test holds them against the structures."""

S = TypeVar("S", bound=msgspec.Struct)


def changed(running: EdgeConfig, wanted: EdgeConfig) -> list[str]:
    """The keys in which two configurations differ; those of cameras as `cameras[door].fps`."""
    keys = set(changed_keys(running, wanted))
    if "cameras" in keys and _same_cameras(running, wanted):
        keys.remove("cameras")
        for before, after in zip(running.cameras, wanted.cameras, strict=True):
            keys.update(changed_keys(before, after, f"cameras[{before.camera_id}]."))
    return sorted(keys)


def _same_cameras(running: EdgeConfig, wanted: EdgeConfig) -> bool:
    return [one.camera_id for one in running.cameras] == [one.camera_id for one in wanted.cameras]


def changed_for_a_restart(running: EdgeConfig, wanted: EdgeConfig) -> list[str]:
    """The keys in which `wanted` differs from what is in force, and that a running daemon does not follow."""
    found = [key for key in changed(running, wanted) if not _is_followed(key)]
    uplink = running.uplink
    measured = any(variant.fidelity is None for variant in uplink.variants or ())
    measured |= uplink.payload is PayloadKind.VIDEO and uplink.video.fidelity is None
    if measured and running.policy.gain_file != wanted.policy.gain_file:
        found.append("policy.gain_file (what it says of uplink.variants and uplink.video)")
    return sorted(found)


def followed(running: EdgeConfig, wanted: EdgeConfig) -> EdgeConfig:
    """What is in force after a reload: of `wanted` the keys that are followed, of `running` the rest.

    Raises:
        ConfigError: the two do not fit together.
    """
    try:
        cameras = running.cameras
        if _same_cameras(running, wanted):
            pairs = zip(running.cameras, wanted.cameras, strict=True)
            cameras = tuple(_merged(before, after, "camera.") for before, after in pairs)
        return msgspec.structs.replace(_merged(running, wanted, ""), cameras=cameras)
    except ValueError as error:
        raise ConfigError(f"{error} (beside the keys that need a restart)") from error


def _merged(running: S, wanted: S, prefix: str) -> S:
    taken: dict[str, object] = {}
    for field in msgspec.structs.fields(running):
        key = f"{prefix}{field.encode_name}"
        before, after = getattr(running, field.name), getattr(wanted, field.name)
        if _is_followed(key):
            taken[field.name] = after
        elif isinstance(before, msgspec.Struct) and type(before) is type(after):
            taken[field.name] = _merged(before, after, f"{key}.")
    return msgspec.structs.replace(running, **taken)


def _is_followed(key: str) -> bool:
    parts = re.sub(r"^cameras\[[^]]*\]", "camera", key).split(".")
    return any(".".join(parts[:count]) in FOLLOWED for count in range(1, len(parts) + 1))
