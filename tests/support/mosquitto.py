"""A real MQTT broker, Mosquitto, and a subscriber to everything."""

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import NamedTuple, Self

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.support.processes import free_port

MOSQUITTO = shutil.which(
    "mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin:/opt/homebrew/sbin"
)
WAIT_S = 60


class Broker:
    """A Mosquitto on a port of its own."""

    def __init__(self, folder: Path, login: str = "allow_anonymous true") -> None:
        self.port = free_port()
        self._config = folder / "mosquitto.conf"
        self._config.write_text(f"listener {self.port} 127.0.0.1\n{login}\n")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it listens."""
        assert MOSQUITTO, "no mosquitto here"
        self.process = subprocess.Popen(
            [MOSQUITTO, "-c", str(self._config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_until(self._listens)

    def _listens(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), WAIT_S):
                return True
        except OSError:
            return False

    def kill(self) -> None:
        """Kill -9."""
        if self.process:
            self.process.kill()
            self.process.wait(WAIT_S)


class Said(NamedTuple):
    """One message as a subscriber gets it."""

    topic: str
    payload: bytes
    retained: bool
    qos: int


class Listener:
    """Subscribes to everything on a port of this machine and hands out messages; connects anew by itself."""

    def __init__(self, port: int) -> None:
        self.messages: SimpleQueue[Said] = SimpleQueue()
        self._subscribed: SimpleQueue[bool] = SimpleQueue()
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.reconnect_delay_set(min_delay=1, max_delay=1)
        self._client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        self._client.on_subscribe = lambda *_: self._subscribed.put(True)
        self._client.on_message = self._note
        self._client.connect_async("127.0.0.1", port)
        self._client.loop_start()
        self._subscribed.get(timeout=WAIT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def say(self, topic: str, payload: str, *, retain: bool = False) -> None:
        """Publish."""
        self._client.publish(topic, payload, 1, retain)

    def wait_for(self, topic: str, payload: bytes | None = None) -> Said:
        """The next message of this topic (and payload)."""
        end_s = time.monotonic() + WAIT_S
        while True:
            try:
                message = self.messages.get(timeout=max(0.0, end_s - time.monotonic()))
            except Empty:
                pytest.fail(f"nothing came on {topic}")
            if message.topic == topic and payload in (None, message.payload):
                return message

    def wait_for_each(self, wanted: Mapping[str, bytes | None]) -> None:
        """A message of each of these topics (and payloads), in any order."""
        missing, end_s = dict(wanted), time.monotonic() + WAIT_S
        while missing:
            try:
                message = self.messages.get(timeout=max(0.0, end_s - time.monotonic()))
            except Empty:
                pytest.fail(f"nothing came on {', '.join(missing)}")
            if message.topic in missing and missing[message.topic] in {None, message.payload}:
                del missing[message.topic]

    def _note(self, _client: paho.Client, _userdata: object, message: paho.MQTTMessage) -> None:
        self.messages.put(Said(message.topic, bytes(message.payload), message.retain, message.qos))


def wait_until(condition: Callable[[], object], said: Callable[[], str] = str) -> None:
    """Poll within the limit; `said` says at its end what came instead."""
    for _ in range(WAIT_S * 100):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail(f"it never came: {said()}")
