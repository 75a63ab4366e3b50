"""The keys of `edge.yaml`; docs/reference/edge.yaml.md is generated from this folder."""

from spillover.edge.config.camera import (
    COMMAND,
    CameraConfig,
    CameraPolicyConfig,
    CommandConfig,
    CsiConfig,
    FrameRateConfig,
    Pace,
    PictureFormat,
)
from spillover.edge.config.daemon import EdgeConfig, LogConfig, Mode
from spillover.edge.config.events import EventsConfig, LineConfig, ZoneConfig
from spillover.edge.config.evidence import ClipConfig, EvidenceConfig, Occasion
from spillover.edge.config.health import HealthConfig, PowerConfig
from spillover.edge.config.keeping import RedactionConfig, RedactionStyle, SpoolConfig
from spillover.edge.config.model import ModelConfig, MultiViewConfig, VariantConfig
from spillover.edge.config.policy import (
    BudgetConfig,
    Period,
    PolicyConfig,
    TemporalConfig,
    TrackingConfig,
)
from spillover.edge.config.sinks import (
    DecisionDetail,
    JsonLinesConfig,
    MqttConfig,
    OtelConfig,
    SinkConfig,
    SqliteConfig,
    WebhookConfig,
)
from spillover.edge.config.uplink import (
    REFRESHING,
    OipConfig,
    PayloadKind,
    PictureVariant,
    SplitConfig,
    TensorType,
    TlsConfig,
    UplinkConfig,
    UplinkProtocol,
    VideoConfig,
)

__all__ = [
    "COMMAND",
    "REFRESHING",
    "BudgetConfig",
    "CameraConfig",
    "CameraPolicyConfig",
    "ClipConfig",
    "CommandConfig",
    "CsiConfig",
    "DecisionDetail",
    "EdgeConfig",
    "EventsConfig",
    "EvidenceConfig",
    "FrameRateConfig",
    "HealthConfig",
    "JsonLinesConfig",
    "LineConfig",
    "LogConfig",
    "Mode",
    "ModelConfig",
    "MqttConfig",
    "MultiViewConfig",
    "Occasion",
    "OipConfig",
    "OtelConfig",
    "Pace",
    "PayloadKind",
    "Period",
    "PictureFormat",
    "PictureVariant",
    "PolicyConfig",
    "PowerConfig",
    "RedactionConfig",
    "RedactionStyle",
    "SinkConfig",
    "SplitConfig",
    "SpoolConfig",
    "SqliteConfig",
    "TemporalConfig",
    "TensorType",
    "TlsConfig",
    "TrackingConfig",
    "UplinkConfig",
    "UplinkProtocol",
    "VariantConfig",
    "VideoConfig",
    "WebhookConfig",
    "ZoneConfig",
]
