"""Builds what keeps evidence, on top of a device and its cameras."""

from collections.abc import Sequence
from importlib.util import find_spec

from spillover.common.extras import missing_extra
from spillover.edge.config import EdgeConfig
from spillover.edge.config.paths import evidence_file
from spillover.edge.device import Device
from spillover.edge.evidence.clips import Clips
from spillover.edge.evidence.evidence import Evidence
from spillover.edge.evidence.snapshots import Snapshots
from spillover.edge.evidence.store import Store
from spillover.edge.evidence.writer import Writer
from spillover.edge.runtime.parts import OnEnd
from spillover.edge.stream import CameraStream

_DAY_S = 86400.0
_HOLD_MARGIN_S = 5.0
"""What an answer may take from the uplink to its result, on a busy device."""


def build_evidence(
    config: EdgeConfig, device: Device, streams: Sequence[CameraStream], on_end: OnEnd
) -> Evidence | None:
    """What keeps evidence of these cameras; None where none is configured.

    Raises:
        InUseError: another daemon has the folder.
        ConfigError: the path can never be a folder of this user's, or what makes clips is not installed.
    """
    if (wanted := config.evidence) is None:
        return None
    metrics, events = device.reporting.metrics, device.reporting.events
    if wanted.clip:
        check_encoder()
    store = Store(evidence_file(wanted), int(wanted.max_mb * 1e6), wanted.keep_days * _DAY_S)

    writer = Writer(store)
    current = {stream.camera_id: stream.settings for stream in streams}
    snapshots = Snapshots(
        wanted.snapshots,
        writer,
        device.model.folder.labels,
        current,
        device.auditor.agrees,
        config.deadline_s + config.uplink.late_answer_window_s + _HOLD_MARGIN_S,
        events,
    )
    clips = Clips(wanted.clip, writer, current, events) if wanted.clip else None
    evidence = Evidence(store, snapshots, clips, on_end)
    evidence.watch(streams, events)
    metrics.watch_evidence(evidence.state)
    return evidence


def check_encoder() -> None:
    """Raises ConfigError: what makes clips is not installed. It is not loaded here: it takes 18 MB."""
    if find_spec("av") is None:
        raise missing_extra(ModuleNotFoundError(name="av"), "video", "evidence.clip")
