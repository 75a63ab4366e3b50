"""Sends results and events to an MQTT broker, QoS 1; docs/reference/sinks.md names the topics.

Retained values, such as whether the device is online, are sent first after every connection. Results wait in
the sink's queue while the broker is away, and the oldest make room for new ones.
"""

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import msgspec

from spillover.common.errors import ConfigError
from spillover.common.files import read_regular
from spillover.common.net.reload import secret_of
from spillover.common.types import Result
from spillover.edge.config import MqttConfig
from spillover.edge.results.delivery import BOXES, SNAPSHOT, Event, EventKind
from spillover.edge.sinks.broker import Access, Broker, Pause
from spillover.edge.sinks.discovery import EMPTY, INSIDE, AnnouncedCamera, announcements, device_announcements
from spillover.edge.sinks.record import Encode, encode_event

_CONFIRM_LIMIT_S = 1.0
"""How long a flush waits for the broker; it fits into the sinks' share of a stop."""
_LARGEST_PICTURE_BYTES = 8_000_000
"""One waits in memory for each camera."""
ONLINE, OFFLINE = "online", "offline"


class MqttSink:
    """Publishes below `topic`/`device`; from `start` on it connects in the background.

    `pictures` is the folder of evidence, whose pictures are published if the configuration says so.
    `pause` replaces the waiting between attempts to connect.

    Raises:
        ConfigError: a file named in the configuration cannot be read.
    """

    refused = ()
    """A broker of MQTT 3.1.1 confirms a message or says nothing."""

    def __init__(
        self,
        config: MqttConfig,
        device_id: str,
        cameras: Sequence[AnnouncedCamera],
        encode: Encode,
        pause: Pause | None = None,
        pictures: Path | None = None,
    ) -> None:
        self._encode = encode
        self._pictures = pictures if config.snapshots else None
        self._device_topic = f"{config.topic}/{device_id}"
        status = f"{self._device_topic}/status"
        birth = f"{config.discovery_prefix}/status" if config.discovery_prefix else ""
        try:
            access = _access(config, f"{config.topic}-{device_id}-{cameras[0].camera_id}")
            self._broker = Broker(access, (status, OFFLINE), birth, pause)
        except OSError as error:
            raise ConfigError(f"sinks: ca: {config.ca}: {error}") from error
        except ValueError as error:
            raise ConfigError(f"sinks: mqtt: {error}") from error
        self._broker.retain(status, ONLINE)
        for topic, payload in device_announcements(config, device_id):
            self._broker.retain(topic, payload)
        for camera in cameras:
            for topic, payload in announcements(config, device_id, camera):
                self._broker.retain(topic, payload)

    def start(self) -> None:
        """Begin to connect."""
        self._broker.start()

    def notice(self, event: Event) -> None:
        """Set the retained states of cameras, zones and lines at once, so that none waits behind results."""
        fields, retain = event.fields, self._broker.retain
        camera_topic = f"{self._device_topic}/{fields.get('camera_id')}"
        zone_topic = f"{camera_topic}/zones/{fields.get('zone')}"
        line_topic = f"{camera_topic}/lines/{fields.get('line')}"
        match event.kind:
            case EventKind.HEALTH:
                retain(f"{self._device_topic}/health", encode_event(event))
            case EventKind.CAMERA_STATE:
                retain(f"{camera_topic}/camera_state", str(fields["state"]))
            case EventKind.ZONE_COUNT:
                retain(f"{zone_topic}/count", str(fields["count"]))
                retain(f"{zone_topic}/occupancy", INSIDE if fields["count"] else EMPTY)
                retain(f"{zone_topic}/classes", msgspec.json.encode(fields["classes"]))
            case EventKind.LINE_COUNT:
                retain(f"{line_topic}/in", str(fields["in_count"]))
                retain(f"{line_topic}/out", str(fields["out_count"]))
            case EventKind.ENTER | EventKind.LEAVE | EventKind.DWELL:
                retain(f"{zone_topic}/last_event", encode_event(event))
            case EventKind.CROSS:
                retain(f"{line_topic}/last_event", encode_event(event))
            case _:
                pass

    def wait_for_room(self, timeout_s: float) -> bool:
        """Wait until not too much is unconfirmed: while the broker is away the rest waits in the queue."""
        return self._broker.wait_for_room(timeout_s)

    def write(self, result: Result) -> None:
        """Publish the record, and the state that a dashboard shows."""
        camera_topic = f"{self._device_topic}/{result.camera_id}"
        self._broker.publish(f"{camera_topic}/result", self._encode(result))
        if not result.revision:
            self._broker.retain(f"{camera_topic}/state", _state(result))

    def tell(self, event: Event) -> None:
        """Publish it, below its camera if it has one."""
        camera_id = event.fields.get("camera_id")
        of_topic = f"{self._device_topic}/{camera_id}" if camera_id else self._device_topic
        self._broker.publish(f"{of_topic}/event", encode_event(event))
        if event.kind is EventKind.EVIDENCE and self._pictures:
            self._show(of_topic, self._pictures / str(event.fields["name"]))

    def _show(self, camera_topic: str, path: Path) -> None:
        """Publish a picture with its boxes; one that has made room for newer ones is passed over."""
        if path.suffix == SNAPSHOT:
            with suppress(OSError):
                jpeg = read_regular(path.with_suffix(BOXES), _LARGEST_PICTURE_BYTES)
                self._broker.retain(f"{camera_topic}/snapshot", jpeg)

    def flush(self) -> None:
        """Wait for the broker to confirm. Raises OSError."""
        self._broker.flush(_CONFIRM_LIMIT_S)

    def reopen(self) -> None:
        """A broker has no file."""

    def close(self) -> None:
        """Say goodbye, which leaves the last will unsaid, so `offline` is published first."""
        self._broker.close(OFFLINE)


def _access(config: MqttConfig, client_id: str) -> Access:
    secret = partial(secret_of, config.password, config.password_file, "sinks: password_file")
    if config.username:
        secret()  # a file that cannot be read is told at the start
    ca = str(Path(config.ca).expanduser()) if config.ca else ""
    return Access(config.host, config.port, client_id, config.username, secret, ca)


def _state(result: Result) -> bytes:
    """What a dashboard shows of a camera: few values, always the same keys."""
    prediction, boxes = result.prediction, result.prediction.boxes
    return msgspec.json.encode(
        {
            "frame_id": result.frame_id,
            "answered_by": result.answered_by.value,
            "class_id": prediction.top_class,
            "confidence": round(prediction.top_confidence, 4),
            "objects": 1 if boxes is None else len(boxes),
            "total_s": round(result.timings.total_s, 4),
        }
    )
