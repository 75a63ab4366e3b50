"""The MQTT sink against a real Mosquitto: QoS 1, retained state, last will, discovery, a broker away."""

import json
import shutil
import socket
import subprocess
from queue import Empty, SimpleQueue

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from spillover.edge.config import MqttConfig
from spillover.edge.results.delivery import Event, EventKind
from spillover.edge.sinks.mqtt import MqttSink
from spillover.edge.sinks.record import record_encoder
from tests.support.edge_values import result
from tests.support.processes import free_port

MOSQUITTO = shutil.which(
    "mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin:/opt/homebrew/sbin"
)
WAIT_S = 20

pytestmark = [
    pytest.mark.slow,
    pytest.mark.needs("mqtt"),
    pytest.mark.skipif(not MOSQUITTO, reason="no mosquitto here (Debian: apt-get install mosquitto)"),
]


class Broker:
    """A Mosquitto on a port of its own."""

    def __init__(self, folder):
        self.port = free_port()
        self._config = folder / "mosquitto.conf"
        self._config.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\n")
        self.process = None

    def start(self):
        """Returns when it listens."""
        self.process = subprocess.Popen(
            [MOSQUITTO, "-c", str(self._config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        with Listener(self.port):
            pass

    def kill(self):
        """Kill -9."""
        if self.process:
            self.process.kill()
            self.process.wait(WAIT_S)


class Listener:
    """Subscribes to everything and hands out messages as (topic, payload, retained, qos)."""

    def __init__(self, port):
        self.messages = SimpleQueue()
        subscribed = SimpleQueue()
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.reconnect_delay_set(min_delay=1, max_delay=1)
        self._client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        self._client.on_subscribe = lambda *_: subscribed.put(True)
        self._client.on_message = lambda _c, _u, m: self.messages.put((m.topic, m.payload, m.retain, m.qos))
        self._client.connect_async("127.0.0.1", port)
        self._client.loop_start()
        subscribed.get(timeout=WAIT_S)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._client.disconnect()
        self._client.loop_stop()

    def wait_for(self, topic, payload=None):
        """The next message of this topic (and payload)."""
        while True:
            try:
                message = self.messages.get(timeout=WAIT_S)
            except Empty:
                pytest.fail(f"nothing came on {topic}")
            if message[0] == topic and payload in (None, message[1]):
                return message


@pytest.fixture
def broker(tmp_path):
    """A broker that runs."""
    broker = Broker(tmp_path)
    broker.start()
    yield broker
    broker.kill()


def _sink(broker, **keys):
    config = MqttConfig(host="127.0.0.1", port=broker.port, **keys)
    sink = MqttSink(config, "pi", ["cam"], record_encoder(("cat", "dog")))
    sink.start()
    return sink


def test_results_come_with_qos_1_and_the_newest_state_is_retained(broker):
    """A subscriber gets each record; one that comes later gets the state and that the device is online."""
    with Listener(broker.port) as listener:
        sink = _sink(broker)
        sink.write(result("cam-b-1"))
        _, payload, retained, qos = listener.wait_for("spillover/pi/cam/result")
        assert (json.loads(payload)["frame_id"], retained, qos) == ("cam-b-1", False, 1)
        listener.wait_for("spillover/pi/cam/state")
    with Listener(broker.port) as late:
        _, payload, retained, _ = late.wait_for("spillover/pi/cam/state")
        assert retained
        assert json.loads(payload)["frame_id"] == "cam-b-1"
        late.messages = SimpleQueue()
    sink.close()


def test_home_assistant_finds_the_camera(broker):
    """Retained announcements name the topics that the sink really uses."""
    with Listener(broker.port) as listener:
        sink = _sink(broker)
        topic = "homeassistant/sensor/spillover_pi_cam_objects/config"
        announced = json.loads(listener.wait_for(topic)[1])
        assert announced["state_topic"] == "spillover/pi/cam/state"
        assert announced["availability_topic"] == "spillover/pi/status"
        problem = listener.wait_for("homeassistant/binary_sensor/spillover_pi_cam_problem/config")
        assert json.loads(problem[1])["state_topic"] == "spillover/pi/cam/camera_state"
        sink.tell(Event(EventKind.CAMERA_STATE, 1.0, {"camera_id": "cam", "state": "lost"}))
        listener.wait_for("spillover/pi/cam/camera_state", b"lost")
        sink.close()


def test_offline_is_said_at_the_end_and_by_the_will_when_the_device_vanishes(broker):
    """A clean end says `offline`; a connection that breaks makes the broker say it."""
    with Listener(broker.port) as listener:
        sink = _sink(broker)
        listener.wait_for("spillover/pi/status", b"online")
        sink.close()
        listener.wait_for("spillover/pi/status", b"offline")
        sink = _sink(broker)
        listener.wait_for("spillover/pi/status", b"online")
        sink._client.socket().shutdown(socket.SHUT_RDWR)  # the power is cut
        listener.wait_for("spillover/pi/status", b"offline")
        sink.close()


def test_a_connection_that_breaks_as_the_sink_closes_is_no_error(broker):
    """The goodbye finds the line dead before the library has noticed; the daemon ends all the same."""
    with Listener(broker.port) as listener:
        sink = _sink(broker)
        listener.wait_for("spillover/pi/status", b"online")
        sink._client.loop_stop()  # nobody is left to notice
        sink._client.socket().shutdown(socket.SHUT_RDWR)
        assert sink._client.is_connected()
        sink.close()
        listener.wait_for("spillover/pi/status", b"offline")


def test_a_broker_that_is_away_costs_no_more_than_the_queue(tmp_path):
    """Messages wait up to the bound, more are refused at once, and those that waited come at last."""
    broker = Broker(tmp_path)
    sink = _sink(broker, queue_size=10, discovery_prefix="")
    for number in range(5):  # each is a record and a state
        sink.write(result(f"cam-b-{number}"))
    with pytest.raises(OSError, match="10 messages wait"):
        sink.write(result("cam-b-5"))
    broker.start()
    with Listener(broker.port) as listener:
        for number in range(5):
            assert b"cam-b-%d" % number in listener.wait_for("spillover/pi/cam/result")[1]
    sink.close()
    broker.kill()
