"""The whole of `edge.yaml`."""

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
    """Who answers: the edge alone, the cloud whenever it can be reached, or whom the policy names."""

    EDGE_ONLY = "edge_only"
    CLOUD_ONLY = "cloud_only"
    HYBRID = "hybrid"


class LogConfig(Section, frozen=True):
    """The log, on standard error."""

    level: Annotated[str, msgspec.Meta(pattern="^(debug|info|warning|error)$")] = "info"
    json: bool = False


class EdgeConfig(Section, frozen=True):
    """The whole of `edge.yaml`."""

    camera: CameraConfig
    model: ModelConfig
    device_id: Name = "edge"
    mode: Mode = Mode.HYBRID
    deadline_s: Positive = 0.5
    """From capture to the frame's first result, whatever the link does."""
    deadline_margin_s: NotNegative = 0.02
    """The local answer is given this much before the deadline, so that it is out by then."""
    policy: PolicyConfig = PolicyConfig()
    temporal: TemporalConfig | None = None
    """Null shows the edge's own answers."""
    uplink: UplinkConfig = UplinkConfig()
    redaction: RedactionConfig | None = None
    spool: SpoolConfig | None = None
    sinks: tuple[SinkConfig, ...] = (JsonLinesConfig(),)
    metrics_address: str = ""
    """`host:port` of the Prometheus endpoint; empty is none."""
    drain_timeout_s: NotNegative = 5.0
    """On stop, how long answers that are under way are waited for."""
    log: LogConfig = LogConfig()

    def __post_init__(self) -> None:
        """Refuse a deadline without time, and two writers of one file."""
        if self.deadline_margin_s >= self.deadline_s:
            raise ValueError("deadline_margin_s must be less than deadline_s")
        if self.metrics_address:
            check_host_port("metrics_address", self.metrics_address)
        paths = [sink.path for sink in self.sinks if not isinstance(sink, MqttConfig)]
        paths += [self.spool.path] if self.spool else []
        if len({_resolved(path) for path in paths}) < len(paths):
            raise ValueError(f"sinks and spool must not write to one path: {', '.join(paths)}")


def _resolved(path: str) -> str:
    return path if path == "-" else str(Path(path).expanduser().absolute())
