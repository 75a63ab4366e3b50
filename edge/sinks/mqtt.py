"""Sends results and events to an MQTT broker, QoS 1; docs/reference/sinks.md names the topics.

While the broker is unreachable, messages wait in memory up to a limit, and the library reconnects after
growing pauses.
"""

import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from spillover.common.errors import ConfigError
from spillover.common.log import get_logger
from spillover.common.net.reload import secret_of
from spillover.common.types import Result
from spillover.edge.config import MqttConfig
from spillover.edge.results.delivery import Event, EventKind
from spillover.edge.sinks.discovery import announcements
from spillover.edge.sinks.record import Encode, encode_event

_log = get_logger("mqtt")

_QOS = 1
_CONFIRM_LIMIT_S = 1.0
"""How long a flush waits for the broker, and the goodbye; both fit into the sinks' share of a stop."""
ONLINE, OFFLINE = "online", "offline"


class MqttSink:
    """Publishes below `topic`/`device`; from `start` on it connects in the background.

    Raises:
        ConfigError: a file named in the configuration cannot be read.
    """

    def __init__(self, config: MqttConfig, device_id: str, cameras: Sequence[str], encode: Encode) -> None:
        self._config = config
        self._encode = encode
        self._device_topic = f"{config.topic}/{device_id}"
        self._announcements = [
            message for camera_id in cameras for message in announcements(config, device_id, camera_id)
        ]
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=f"spillover-{device_id}-{cameras[0]}"
        )
        self._client.max_queued_messages_set(config.queue_size)
        self._client.reconnect_delay_set(min_delay=1, max_delay=10)
        self._client.will_set(f"{self._device_topic}/status", OFFLINE, _QOS, retain=True)
        self._client.on_connect = self._connected
        self._client.on_publish = self._confirmed
        self._unconfirmed = 0
        self._fewer = threading.Condition()
        self._authenticate()
        self._client.connect_async(config.host, config.port, keepalive=30)  # only notes where

    def start(self) -> None:
        """Begin to connect, on the library's thread."""
        self._client.loop_start()

    def write(self, result: Result) -> None:
        """Publish the record, and the state that a dashboard shows."""
        camera_topic = f"{self._device_topic}/{result.camera_id}"
        self._publish(f"{camera_topic}/result", self._encode(result))
        if not result.revision:
            self._publish(f"{camera_topic}/state", _state(result), retain=True)

    def tell(self, event: Event) -> None:
        """Publish it, one that concerns a camera below that; the camera's state is retained."""
        data = encode_event(event)
        if "camera_id" not in event.fields:
            self._publish(f"{self._device_topic}/event", data)
            return
        camera_topic = f"{self._device_topic}/{event.fields['camera_id']}"
        self._publish(f"{camera_topic}/event", data)
        if event.kind is EventKind.CAMERA_STATE:
            self._publish(f"{camera_topic}/camera_state", str(event.fields["state"]), retain=True)

    def flush(self) -> None:
        """Wait for the broker to confirm; the library's thread sends on its own. Raises OSError."""
        with self._fewer:
            if not self._fewer.wait_for(lambda: not self._unconfirmed, _CONFIRM_LIMIT_S):
                raise OSError(f"broker {self._config.host} has not confirmed {self._unconfirmed} messages")

    def reopen(self) -> None:
        """A broker has no file."""

    def close(self) -> None:
        """Say goodbye, which leaves the last will unsaid, so `offline` is published first."""
        if self._client.is_connected():
            farewell = self._send(f"{self._device_topic}/status", OFFLINE, retain=True)
            with suppress(RuntimeError, ValueError):  # the line just broke: the will says it
                farewell.wait_for_publish(_CONFIRM_LIMIT_S)
        self._client.disconnect()
        self._client.loop_stop()
        # The library closes its last sockets when its object dies, which callbacks to here would put off.
        self._client.on_connect = self._client.on_publish = None

    def _publish(self, topic: str, payload: bytes | str, *, retain: bool = False) -> None:
        info = self._send(topic, payload, retain=retain)
        if info.rc == paho.MQTT_ERR_QUEUE_SIZE:
            raise OSError(f"broker {self._config.host} is away and {self._config.queue_size} messages wait")

    def _send(self, topic: str, payload: bytes | str, *, retain: bool) -> paho.MQTTMessageInfo:
        self._count(1)  # before: the confirmation comes on another thread
        info = self._client.publish(topic, payload, _QOS, retain)
        if info.rc == paho.MQTT_ERR_QUEUE_SIZE:
            self._count(-1)
        return info

    def _confirmed(self, *_: object) -> None:
        """The broker confirmed a message; called on the library's thread."""
        self._count(-1)

    def _count(self, more: int) -> None:
        with self._fewer:
            self._unconfirmed += more
            self._fewer.notify_all()

    def _connected(
        self,
        _client: paho.Client,
        _userdata: object,
        _flags: paho.ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        """Runs on the library's thread after every connection, the first and the later ones."""
        if reason.is_failure:
            _log.error("broker refuses", broker=self._config.host, reason=str(reason))
            return
        self._send(f"{self._device_topic}/status", ONLINE, retain=True)
        for topic, payload in self._announcements:
            self._send(topic, payload, retain=True)

    def _authenticate(self) -> None:
        config = self._config
        try:
            if config.username:
                secret = secret_of(config.password, config.password_file, "sinks: password_file")
                self._client.username_pw_set(config.username, secret or None)
            if config.ca:
                self._client.tls_set(ca_certs=str(Path(config.ca).expanduser()))
        except (OSError, ValueError) as error:
            raise ConfigError(f"sinks: mqtt: {error}") from error


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
