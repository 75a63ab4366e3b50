"""Messages that make a camera appear in Home Assistant by itself (MQTT discovery)."""

import msgspec

from spillover.edge.camera.source import CameraState
from spillover.edge.config import MqttConfig


def announcements(config: MqttConfig, device_id: str, camera_id: str) -> list[tuple[str, bytes]]:
    """Retained messages, as (topic, JSON): three sensors and the camera's health. Empty without a prefix."""
    if not config.discovery_prefix:
        return []
    base = f"{config.topic}/{device_id}"
    camera = f"{base}/{camera_id}"
    unique = f"spillover_{device_id}_{camera_id}"
    shared: dict[str, object] = {
        "availability_topic": f"{base}/status",
        "device": {
            "identifiers": [f"spillover_{device_id}"],
            "name": f"Spillover {device_id}",
            "manufacturer": "Spillover",
        },
    }
    state = f"{camera}/state"
    sensors: dict[str, dict[str, object]] = {
        "objects": {"name": f"{camera_id} objects", "value_template": "{{ value_json.objects }}"},
        "confidence": {"name": f"{camera_id} confidence", "value_template": "{{ value_json.confidence }}"},
        "answered_by": {"name": f"{camera_id} answered by", "value_template": "{{ value_json.answered_by }}"},
    }
    found = [
        _message(config, "sensor", f"{unique}_{key}", fields | {"state_topic": state} | shared)
        for key, fields in sensors.items()
    ]
    health: dict[str, object] = {
        "name": f"{camera_id} problem",
        "device_class": "problem",
        "state_topic": f"{camera}/camera_state",
        "value_template": f"{{{{ 'OFF' if value == '{CameraState.OK.value}' else 'ON' }}}}",
    }
    return [*found, _message(config, "binary_sensor", f"{unique}_problem", health | shared)]


def _message(
    config: MqttConfig, component: str, unique_id: str, fields: dict[str, object]
) -> tuple[str, bytes]:
    topic = f"{config.discovery_prefix}/{component}/{unique_id}/config"
    return topic, msgspec.json.encode(fields | {"unique_id": unique_id})
