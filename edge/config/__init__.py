"""What `edge.yaml` may say. `examples/edge.yaml` shows every key; both are kept together by a test."""

from spillover.edge.config.camera import CameraConfig, Pace
from spillover.edge.config.daemon import EdgeConfig, LogConfig, Mode
from spillover.edge.config.keeping import RedactionConfig, RedactionStyle, SpoolConfig
from spillover.edge.config.model import ModelConfig, SecondLookConfig
from spillover.edge.config.policy import BudgetConfig, CarryConfig, Period, PolicyConfig
from spillover.edge.config.sinks import JsonLinesConfig, MqttConfig, SinkConfig, SqliteConfig
from spillover.edge.config.uplink import (
    OipConfig,
    PayloadKind,
    Rung,
    SplitConfig,
    TensorType,
    TlsConfig,
    UplinkConfig,
    UplinkProtocol,
)

__all__ = [
    "BudgetConfig",
    "CameraConfig",
    "CarryConfig",
    "EdgeConfig",
    "JsonLinesConfig",
    "LogConfig",
    "Mode",
    "ModelConfig",
    "MqttConfig",
    "OipConfig",
    "Pace",
    "PayloadKind",
    "Period",
    "PolicyConfig",
    "RedactionConfig",
    "RedactionStyle",
    "Rung",
    "SecondLookConfig",
    "SinkConfig",
    "SplitConfig",
    "SpoolConfig",
    "SqliteConfig",
    "TensorType",
    "TlsConfig",
    "UplinkConfig",
    "UplinkProtocol",
]
