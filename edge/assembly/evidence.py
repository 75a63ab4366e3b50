"""Builds what keeps evidence, on top of a device and its cameras."""

from collections.abc import Callable, Sequence

from spillover.edge.config import EdgeConfig
from spillover.edge.config.paths import evidence_file
from spillover.edge.device import Device
from spillover.edge.evidence.evidence import Evidence
from spillover.edge.evidence.snapshots import Snapshots
from spillover.edge.evidence.store import Store
from spillover.edge.pipeline import CameraSettings
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
        ConfigError: the path can never be a folder of this user's.
    """
    if (wanted := config.evidence) is None:
        return None
    metrics, events = device.reporting.metrics, device.reporting.events
    store = Store(evidence_file(wanted), int(wanted.max_mb * 1e6), wanted.keep_days * _DAY_S)

    snapshots = Snapshots(
        wanted.snapshots,
        store,
        device.model.folder.labels,
        {stream.camera_id: _settings_of(stream) for stream in streams},
        device.auditor.agrees,
        config.deadline_s + config.uplink.late_answer_window_s + _HOLD_MARGIN_S,
        events,
    )
    evidence = Evidence(store, snapshots, on_end)
    evidence.watch(streams, events)
    metrics.watch_evidence(evidence.state)
    return evidence


def _settings_of(stream: CameraStream) -> Callable[[], CameraSettings]:
    return lambda: stream.pipeline.settings
