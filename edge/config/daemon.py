"""The top-level keys of `edge.yaml`."""

import enum
from pathlib import Path
from typing import Annotated

import msgspec

from spillover.common.config import Section
from spillover.common.net.addresses import check_host_port
from spillover.edge.config.camera import CameraConfig
from spillover.edge.config.keeping import RedactionConfig, SpoolConfig
from spillover.edge.config.kinds import Name, NotNegative, Positive
from spillover.edge.config.model import ModelConfig
from spillover.edge.config.policy import PolicyConfig, TemporalConfig
from spillover.edge.config.sinks import JsonLinesConfig, MqttConfig, SinkConfig
from spillover.edge.config.uplink import UplinkConfig


class Mode(enum.Enum):
    """Who answers."""

    EDGE_ONLY = "edge_only"
    """This device alone; nothing leaves it."""
    CLOUD_ONLY = "cloud_only"
    """The cloud for every frame it can answer in time, this device for the rest."""
    HYBRID = "hybrid"
    """The policy decides for each frame."""


class LogConfig(Section, frozen=True):
    """The log, on standard error."""

    level: Annotated[str, msgspec.Meta(pattern="^(debug|info|warning|error)$")] = "info"
    """The least serious entries that are written."""
    json: bool = False
    """Write each entry as one JSON object, for machines."""


class EdgeConfig(Section, frozen=True):
    """The whole of `edge.yaml`."""

    model: ModelConfig
    """The model that answers every frame first."""
    camera: CameraConfig | None = None
    """Where frames come from. Either this or `cameras`."""
    cameras: tuple[CameraConfig, ...] = ()
    """Several cameras in place of one, each like `camera`; they share model, uplink, spool and sinks."""
    device_id: Name = "edge"
    """Name of this device for the cloud, MQTT topics and certificates."""
    mode: Mode = Mode.HYBRID
    """Who answers."""
    deadline_s: Positive = 0.5
    """Seconds from capture to a frame's first result, whatever the link does."""
    deadline_margin_s: NotNegative = 0.02
    """The local answer is given this many seconds before the deadline, so that a busy device is in time."""
    policy: PolicyConfig = PolicyConfig()
    """Which frames are sent in mode `hybrid`."""
    temporal: TemporalConfig | None = None
    """Correct a classifier's answers by the cloud's last one; null: show the edge's own answers."""
    uplink: UplinkConfig = UplinkConfig()
    """How frames reach the cloud."""
    redaction: RedactionConfig | None = None
    """What is hidden in every picture before it leaves or is stored; null: nothing."""
    spool: SpoolConfig | None = None
    """Where frames wait while the link is down; null: such frames get the local answer alone."""
    sinks: tuple[SinkConfig, ...] = (JsonLinesConfig(),)
    """Where results go; any number of sinks."""
    metrics_address: str = ""
    """`host:port` of the Prometheus endpoint, such as 127.0.0.1:9464; empty: none."""
    stop_timeout_s: Annotated[float, msgspec.Meta(ge=1)] = 20.0
    """Seconds that the whole stop may take, from calls in flight to the last result; what hangs is left."""
    log: LogConfig = LogConfig()
    """The log, on standard error."""

    def __post_init__(self) -> None:
        """Refuse no camera, cameras that cannot share a device, no time, and two writers of one file."""
        _check_cameras(self.camera, self.cameras)
        if self.deadline_margin_s >= self.deadline_s:
            raise ValueError("deadline_margin_s must be less than deadline_s")
        if self.metrics_address:
            check_host_port("metrics_address", self.metrics_address)
        paths = [sink.path for sink in self.sinks if not isinstance(sink, MqttConfig)]
        paths += [self.spool.path] if self.spool else []
        if len({_resolved(path) for path in paths}) < len(paths):
            raise ValueError(f"sinks and spool must not write to one path: {', '.join(paths)}")

    @property
    def all_cameras(self) -> tuple[CameraConfig, ...]:
        """The cameras, at least one."""
        return self.cameras or ((self.camera,) if self.camera else ())


def _check_cameras(camera: CameraConfig | None, cameras: tuple[CameraConfig, ...]) -> None:
    if (camera is None) == (not cameras):
        raise ValueError("camera or cameras: exactly one of them is needed")
    names = [one.camera_id for one in cameras]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"cameras: camera_id {', '.join(twice)} stands there twice")
    if len({one.pace for one in cameras}) > 1:
        raise ValueError("cameras: pace must be the same for all")


def _resolved(path: str) -> str:
    return path if path == "-" else str(Path(path).expanduser().absolute())
