"""What `edge.yaml` may say. `examples/edge.yaml` shows every key; both are kept together by a test."""

from edge.config.camera import CameraConfig, Pace
from edge.config.daemon import EdgeConfig, LogConfig, Mode
from edge.config.keeping import RedactionConfig, RedactionStyle, SpoolConfig
from edge.config.model import ModelConfig, SecondLookConfig
from edge.config.policy import BudgetConfig, CarryConfig, Period, PolicyConfig
from edge.config.sinks import JsonLinesConfig, MqttConfig, SinkConfig, SqliteConfig
from edge.config.uplink import (
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
