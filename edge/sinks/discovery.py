"""Messages that make cameras, zones and lines appear in Home Assistant by themselves (MQTT discovery).

https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery defines them.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from spillover.edge.camera.source import CameraState
from spillover.edge.config import EventsConfig, LineConfig, MqttConfig, ZoneConfig

INSIDE, EMPTY = "ON", "OFF"
"""Payloads of a zone's occupancy."""


@dataclass(frozen=True, slots=True)
class AnnouncedCamera:
    """A camera, and what its events are about."""

    camera_id: str
    zones: tuple[ZoneConfig, ...] = ()
    lines: tuple[LineConfig, ...] = ()
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By zone: the names of the classes that are counted each for itself."""


def announced(camera_id: str, events: EventsConfig | None, labels: Sequence[str]) -> AnnouncedCamera:
    """A camera with the zones and lines of `events`; classes that are given by number have their label."""
    if events is None:
        return AnnouncedCamera(camera_id)

    def named(one: str | int) -> str:
        return labels[one] if isinstance(one, int) and 0 <= one < len(labels) else str(one)

    classes = {zone.name: tuple(map(named, zone.classes or events.classes)) for zone in events.zones}
    return AnnouncedCamera(camera_id, events.zones, events.lines, classes)


def announcements(config: MqttConfig, device_id: str, camera: AnnouncedCamera) -> list[tuple[str, bytes]]:
    """Retained messages, as (topic, JSON); empty without a prefix.

    Three sensors, the health of the camera, and its newest picture if that is published; for each zone if
    somebody is inside, and how many, by class too where classes are named; for each line how often it was
    crossed.
    """
    if not config.discovery_prefix:
        return []
    base = f"{config.topic}/{device_id}"
    shared = _shared(base, device_id)
    unique = f"spillover_{device_id}_{camera.camera_id}"
    topic = f"{base}/{camera.camera_id}"
    entities = (
        *_of_camera(camera, topic),
        *_of_pictures(config, camera, topic),
        *_of_zones(camera, topic),
        *_of_lines(camera, topic),
    )
    return [_message(config, kind, f"{unique}_{key}", {**fields, **shared}) for kind, key, fields in entities]


def device_announcements(config: MqttConfig, device_id: str) -> list[tuple[str, bytes]]:
    """The same for the device itself: what `TOPIC/DEVICE/health` says of it."""
    if not config.discovery_prefix:
        return []
    base = f"{config.topic}/{device_id}"
    shared = {"state_topic": f"{base}/health", "entity_category": "diagnostic"} | _shared(base, device_id)
    return [
        _message(
            config, kind, f"spillover_{device_id}_{key}", {"name": key.replace("_", " "), **fields} | shared
        )
        for kind, key, fields in _of_device()
    ]


def _shared(base: str, device_id: str) -> dict[str, object]:
    """What all entities of a device have."""
    return {
        "availability_topic": f"{base}/status",
        "device": {
            "identifiers": [f"spillover_{device_id}"],
            "name": f"Spillover {device_id}",
            "manufacturer": "Spillover",
        },
    }


Entity = tuple[str, str, Mapping[str, object]]
"""Component, the last part of its id, and its fields."""


def _of_camera(camera: AnnouncedCamera, topic: str) -> Iterator[Entity]:
    for key in ("objects", "confidence", "answered_by"):
        yield (
            "sensor",
            key,
            {
                "name": f"{camera.camera_id} {key.replace('_', ' ')}",
                "value_template": f"{{{{ value_json.{key} }}}}",
                "state_topic": f"{topic}/state",
            },
        )
    yield (
        "binary_sensor",
        "problem",
        {
            "name": f"{camera.camera_id} problem",
            "device_class": "problem",
            "state_topic": f"{topic}/camera_state",
            "value_template": f"{{{{ 'OFF' if value == '{CameraState.OK.value}' else 'ON' }}}}",
        },
    )


_LADDER = "value_json.ladder.{} if value_json.ladder else None"
_MEASURED: tuple[tuple[str, str, str, str], ...] = (
    ("temperature", "value_json.device.temperature_celsius", "°C", "temperature"),
    ("processor", "value_json.device.cpu_share", "", ""),
    ("memory_available", "value_json.device.memory_available_bytes", "B", "data_size"),
    ("fan", "value_json.device.fan_rpm", "rpm", ""),
    ("supply", "value_json.device.supply_volts", "V", "voltage"),
    ("power_estimate", "value_json.device.power_estimate_watts", "W", "power"),
    ("inferences_per_second", "value_json.work.per_s", "", ""),
    ("inference_p99", "value_json.work.p99_s", "s", "duration"),
    ("ladder_step", _LADDER.format("step"), "", ""),
)
"""What is measured of a device: name, where it is in the report, unit, and device class."""


def _of_device() -> Iterator[Entity]:
    """What is null in the report renders as `None`, which is unknown in Home Assistant."""
    for key, where, unit, kind in _MEASURED:
        fields = {"value_template": f"{{{{ {where} }}}}", "state_class": "measurement"}
        fields |= {"unit_of_measurement": unit} if unit else {}
        yield "sensor", key, fields | ({"device_class": kind} if kind else {})
    yield "sensor", "ladder", {"value_template": f"{{{{ {_LADDER.format('does')} }}}}"}
    under_voltage = "{{ {true: 'ON', false: 'OFF'}.get(value_json.device.under_voltage) }}"
    yield "binary_sensor", "under_voltage", {"device_class": "problem", "value_template": under_voltage}


def _of_pictures(config: MqttConfig, camera: AnnouncedCamera, topic: str) -> Iterator[Entity]:
    if config.snapshots:
        yield "camera", "snapshot", {"name": f"{camera.camera_id} snapshot", "topic": f"{topic}/snapshot"}


def _of_zones(camera: AnnouncedCamera, topic: str) -> Iterator[Entity]:
    for zone in camera.zones:
        name, key, below = (
            f"{camera.camera_id} {zone.name}",
            f"zone_{zone.name}",
            f"{topic}/zones/{zone.name}",
        )
        occupancy = {"device_class": "occupancy", "payload_on": INSIDE, "payload_off": EMPTY}
        yield (
            "binary_sensor",
            f"{key}_occupancy",
            {"name": f"{name} occupancy", "state_topic": f"{below}/occupancy"} | occupancy,
        )
        count = {"state_class": "measurement"}
        yield (
            "sensor",
            f"{key}_count",
            {"name": f"{name} count", "state_topic": f"{below}/count"} | count,
        )
        for label in camera.classes.get(zone.name, ()):
            template = f"{{{{ value_json.get({msgspec.json.encode(label).decode()}, 0) }}}}"
            yield (
                "sensor",
                f"{key}_count_{label}",
                {"name": f"{name} {label} count", "state_topic": f"{below}/classes"}
                | {"value_template": template}
                | count,
            )


def _of_lines(camera: AnnouncedCamera, topic: str) -> Iterator[Entity]:
    for line in camera.lines:
        for way in ("in", "out"):
            if line.direction not in {way, "both"}:
                continue
            yield (
                "sensor",
                f"line_{line.name}_{way}",
                {
                    "name": f"{camera.camera_id} {line.name} {way}",
                    "state_topic": f"{topic}/lines/{line.name}/{way}",
                    "state_class": "total",
                },
            )


def _message(
    config: MqttConfig, component: str, unique_id: str, fields: dict[str, object]
) -> tuple[str, bytes]:
    # Home Assistant passes over an id with anything but these characters.
    object_id = re.sub(r"[^A-Za-z0-9_-]", "_", unique_id)
    topic = f"{config.discovery_prefix}/{component}/{object_id}/config"
    return topic, msgspec.json.encode(fields | {"unique_id": unique_id})
