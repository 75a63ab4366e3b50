"""The MQTT sink against a real Mosquitto: QoS 1, retained state, last will, discovery, a broker away."""

import json
import os
import re
import signal
import socket
import threading
from collections import Counter
from pathlib import Path
from queue import SimpleQueue

import jinja2
import msgspec
import pytest
from structlog.testing import capture_logs

from spillover.edge.config import EventsConfig, LineConfig, MqttConfig, ZoneConfig
from spillover.edge.health.readings import HealthReport, LadderState, Readings, Work
from spillover.edge.results.delivery import DeliveryAck, Event, EventKind
from spillover.edge.runtime.queues import WhenFull
from spillover.edge.sinks.discovery import announced, announcements, device_announcements
from spillover.edge.sinks.mqtt import MqttSink
from spillover.edge.sinks.outlet import Outlet
from spillover.edge.sinks.record import record_encoder
from tests.support.edge_values import result
from tests.support.mosquitto import MOSQUITTO, WAIT_S, Broker, Listener, wait_until
from tests.support.processes import free_port

ENCODE = record_encoder(("cat", "dog"))
SQUARE = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0))
EVENTS = EventsConfig(
    zones=(
        ZoneConfig(name="door", polygon=SQUARE, classes=("cat", 1)),
        ZoneConfig(name="yard", polygon=SQUARE),
    ),
    lines=(LineConfig(name="gate", points=((0, 0.5), (1, 0.5)), direction="in"),),
)
CAMERA = announced("cam", EVENTS, ("cat", "dog"))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.needs("mqtt"),
    pytest.mark.skipif(not MOSQUITTO, reason="no mosquitto here (Debian: apt-get install mosquitto)"),
]


@pytest.fixture
def broker(tmp_path):
    """A broker that runs."""
    broker = Broker(tmp_path)
    broker.start()
    yield broker
    broker.kill()


def _sink(port, host="127.0.0.1", pause=None, **keys):
    """A sink as the daemon has it."""
    return MqttSink(MqttConfig(host=host, port=port, **keys), "pi", [CAMERA], ENCODE, pause)


def _started(port, **keys):
    sink = _sink(port, **keys)
    sink.start()
    return sink


def test_results_come_with_qos_1_and_the_newest_state_is_retained(broker):
    """A subscriber gets each record; one that comes later gets the state and that the device is online."""
    with Listener(broker.port) as listener:
        sink = _started(broker.port)
        listener.wait_for("spillover/pi/status", b"online")
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
        sink = _started(broker.port)
        topic = "homeassistant/sensor/spillover_pi_cam_objects/config"
        announced = json.loads(listener.wait_for(topic)[1])
        assert announced["state_topic"] == "spillover/pi/cam/state"
        assert announced["availability_topic"] == "spillover/pi/status"
        problem = listener.wait_for("homeassistant/binary_sensor/spillover_pi_cam_problem/config")
        assert json.loads(problem[1])["state_topic"] == "spillover/pi/cam/camera_state"
        sink.notice(Event(EventKind.CAMERA_STATE, 1.0, {"camera_id": "cam", "state": "lost"}))
        listener.wait_for("spillover/pi/cam/camera_state", b"lost")
        sink.close()


def test_home_assistant_sees_the_newest_picture(broker, tmp_path):
    """Of evidence that is on the disk, with boxes, retained; what has gone meanwhile is passed over."""
    camera_topic, discovery = (
        "spillover/pi/cam/snapshot",
        "homeassistant/camera/spillover_pi_cam_snapshot/config",
    )
    (tmp_path / "cam-b-1.boxes.jpg").write_bytes(b"\xff\xd8picture\xff\xd9")
    config = MqttConfig(host="127.0.0.1", port=broker.port, snapshots=True)
    sink = MqttSink(config, "pi", [CAMERA], ENCODE, pictures=tmp_path)
    sink.start()
    for name in ("cam-b-1.jpg", "cam-b-1.mp4", "cam-b-2.jpg"):
        fields = {"camera_id": "cam", "frame_id": "cam-b-1", "name": name}
        sink.tell(Event(EventKind.EVIDENCE, 1.0, fields))
    sink.flush()
    with Listener(broker.port) as listener:
        listener.wait_for_each({camera_topic: b"\xff\xd8picture\xff\xd9", discovery: None})
    told = {topic: json.loads(payload) for topic, payload in announcements(config, "pi", CAMERA)}
    assert told[discovery]["topic"] == camera_topic
    sink.close()


def test_home_assistant_reads_the_devices_health(broker):
    """Each entity's template finds its figure in what is retained, and what is null is unknown, never 0."""
    told = [json.loads(one) for _, one in device_announcements(MqttConfig(host="broker"), "pi")]
    ladder = LadderState(step=2, does="less", cause="heat", reason="", age_s=0.0)
    device = Readings(temperature_celsius=61.5, cpu_share=0.0, under_voltage=True)
    work = Work(inferences=1, per_s=2.0, mean_s=0.1, p99_s=None)
    report = HealthReport(
        device_id="pi",
        boot_id="b",
        uptime_s=1.0,
        model="m@1",
        ladder=ladder,
        work=work,
        joules_estimate_per_frame=None,
        device=device,
    )
    sink = _started(broker.port)
    with Listener(broker.port) as listener:
        sink.notice(Event(EventKind.HEALTH, 1.0, msgspec.to_builtins(report)))
        retained = json.loads(listener.wait_for("spillover/pi/health")[1])
    sink.close()
    assert {one["state_topic"] for one in told} == {"spillover/pi/health"}
    shown = {
        one["unique_id"].removeprefix("spillover_pi_"): jinja2.Template(one["value_template"]).render(
            value_json=retained
        )
        for one in told
    }
    assert shown == {
        "temperature": "61.5",
        "processor": "0.0",
        "memory_available": "None",
        "fan": "None",
        "supply": "None",
        "power_estimate": "None",
        "inferences_per_second": "2.0",
        "inference_p99": "None",
        "ladder_step": "2",
        "ladder": "less",
        "under_voltage": "ON",
    }


def test_home_assistant_finds_zones_and_lines(broker):
    """Each entity reads a topic that is retained once counts were told; classes are announced by label."""
    told = announcements(MqttConfig(host="broker"), "pi", CAMERA)
    read = {json.loads(payload)["unique_id"]: json.loads(payload)["state_topic"] for _, payload in told}
    below = "spillover/pi/cam"
    mine = {name.removeprefix("spillover_pi_cam_"): topic for name, topic in read.items()}
    assert {name: topic for name, topic in mine.items() if name.startswith(("zone", "line"))} == {
        "zone_door_occupancy": f"{below}/zones/door/occupancy",
        "zone_door_count": f"{below}/zones/door/count",
        "zone_door_count_cat": f"{below}/zones/door/classes",
        "zone_door_count_dog": f"{below}/zones/door/classes",
        "zone_yard_occupancy": f"{below}/zones/yard/occupancy",
        "zone_yard_count": f"{below}/zones/yard/count",
        "line_gate_in": f"{below}/lines/gate/in",
    }
    sink = _started(broker.port)
    for event in (_zone("door", 2, cat=2), _zone("yard", 0), _line(3)):
        sink.notice(event)
    with Listener(broker.port) as listener:
        listener.wait_for_each(
            {"homeassistant/sensor/spillover_pi_cam_zone_door_count/config": None}
            | {
                f"{below}/zones/door/occupancy": b"ON",
                f"{below}/zones/door/count": b"2",
                f"{below}/zones/door/classes": b'{"cat":2}',
                f"{below}/zones/yard/occupancy": b"OFF",
                f"{below}/lines/gate/in": b"3",
            }
        )
    sink.close()


def test_counts_are_right_after_the_broker_and_after_the_daemon_begins_anew(broker):
    """A broker that lost all is told the counts of now; a daemon that starts says that nobody is inside."""
    count, last = "spillover/pi/cam/zones/door/count", "spillover/pi/cam/zones/door/last_event"
    sink = _started(broker.port)
    with Listener(broker.port) as listener:
        sink.notice(_zone("door", 1, cat=1))
        listener.wait_for(count, b"1")
    broker.kill()
    sink.notice(_zone("door", 3, cat=3))
    sink.notice(Event(EventKind.ENTER, 1.0, {"camera_id": "cam", "zone": "door", "phase": "confirmed"}))
    broker.start()  # without any memory
    with Listener(broker.port) as listener:
        listener.wait_for_each({count: b"3", last: None, "spillover/pi/cam/zones/door/occupancy": b"ON"})
    sink._broker._closing.set()  # the device dies with three inside
    _socket_of(sink).shutdown(socket.SHUT_RDWR)
    again = _sink(broker.port)
    again.notice(_zone("door", 0))
    again.start()
    with Listener(broker.port) as listener:
        listener.wait_for(count, b"0")
    again.close()


def _zone(zone, count, **classes):
    fields = {"camera_id": "cam", "zone": zone, "count": count, "classes": classes}
    return Event(EventKind.ZONE_COUNT, 1.0, fields)


def _line(count):
    fields = {"camera_id": "cam", "line": "gate", "in_count": count, "out_count": 0}
    return Event(EventKind.LINE_COUNT, 1.0, fields)


def test_offline_is_said_at_the_end_and_by_the_will_when_the_device_vanishes(broker):
    """A clean end says `offline`; a connection that breaks makes the broker say it."""
    with Listener(broker.port) as listener:
        sink = _started(broker.port)
        listener.wait_for("spillover/pi/status", b"online")
        sink.close()
        listener.wait_for("spillover/pi/status", b"offline")
        sink = _started(broker.port)
        listener.wait_for("spillover/pi/status", b"online")
        _socket_of(sink).shutdown(socket.SHUT_RDWR)  # the power is cut
        listener.wait_for("spillover/pi/status", b"offline")
        sink.close()


def test_a_connection_that_breaks_as_the_sink_closes_is_no_error(broker):
    """The goodbye finds the line dead before the library has noticed; the daemon ends all the same."""
    with Listener(broker.port) as listener:
        sink = _started(broker.port)
        listener.wait_for("spillover/pi/status", b"online")
        os.kill(broker.process.pid, signal.SIGSTOP)  # takes everything, confirms nothing
        sink.write(result("cam-b-1"))
        _socket_of(sink).shutdown(socket.SHUT_RDWR)
        sink.close()
        os.kill(broker.process.pid, signal.SIGCONT)
        listener.wait_for("spillover/pi/status", b"offline")


class Clock:
    """Time that passes in pauses between attempts to connect, all at once, and not before `gate` is set."""

    def __init__(self, at_s, happens):
        self.now_s = 0.0
        self._at_s = at_s
        self._happens = happens
        self.gate = threading.Event()

    def pause(self, seconds):
        """Let so much time pass; at the moment `at_s` of it something happens, once."""
        assert self.gate.wait(WAIT_S)
        self.now_s += seconds
        if self._happens and self.now_s >= self._at_s:
            happens, self._happens = self._happens, None
            happens()


def test_all_is_right_within_ten_seconds_of_a_brokers_return(broker):
    """A minute without it, full of results: status, discovery and camera state are as they are by then.

    The broker has forgotten everything, and the state that it never confirmed is no longer true. Of the
    results the newest come, the others are counted, and each acknowledgement says which.
    """
    clock, drops = Clock(60.0, broker.start), Counter()
    sink = _sink(broker.port, pause=clock.pause)
    outlet = Outlet("0:mqtt", sink, 10, lambda why: drops.update([why]), when_full=WhenFull.DROP_OLDEST)
    thread = threading.Thread(target=outlet.run, daemon=True)
    thread.start()
    with Listener(broker.port) as listener:
        listener.wait_for("spillover/pi/status", b"online")
    os.kill(broker.process.pid, signal.SIGSTOP)  # takes what comes, and confirms nothing any more
    outlet.put(Event(EventKind.CAMERA_STATE, 1.0, {"camera_id": "cam", "state": "lost"}), DeliveryAck(1))
    broker.kill()
    outlet.put(Event(EventKind.CAMERA_STATE, 2.0, {"camera_id": "cam", "state": "ok"}), DeliveryAck(1))
    acks = [DeliveryAck(1) for _ in range(200)]
    for number, ack in enumerate(acks):
        outlet.put(result(f"cam-b-{number}"), ack)
    clock.gate.set()
    wait_until(lambda: clock.now_s >= 60 and broker.process.poll() is None)
    with Listener(broker.port) as listener:
        listener.wait_for_each(
            {
                "spillover/pi/status": b"online",
                "homeassistant/sensor/spillover_pi_cam_objects/config": None,
                "spillover/pi/cam/camera_state": b"ok",
            }
        )
    assert clock.now_s <= 60 + 10
    stored = [ack.wait(WAIT_S) for ack in acks]
    assert all(stored[-10:])
    assert drops == {"queue full": stored.count(False)}
    with Listener(broker.port) as late:
        assert late.wait_for("spillover/pi/cam/camera_state")[1] == b"ok"  # and nothing older came after it
    outlet.close()
    thread.join(WAIT_S)


def test_home_assistant_that_starts_again_is_told_again(broker):
    """Its birth message brings discovery and states once more, for a broker without persistence beside it."""
    sink = _started(broker.port)
    with Listener(broker.port) as listener:
        topic = "homeassistant/sensor/spillover_pi_cam_objects/config"
        assert listener.wait_for(topic)
        listener.say("homeassistant/status", "offline")
        listener.say("homeassistant/status", "online")
        listener.wait_for_each({"spillover/pi/status": b"online", topic: None})
    sink.close()


def test_a_huge_birth_message_costs_one_connection(broker):
    """A retained 1 MB on the status topic is not taken; the sink goes on without birth messages."""
    with Listener(broker.port) as listener, capture_logs() as log:
        listener.say("homeassistant/status", "x" * 1_000_000, retain=True)
        listener.wait_for("homeassistant/status")
        sink = _started(broker.port)
        wait_until(lambda: any(entry["event"] == "birth messages are not heard any more" for entry in log))
        wait_until(lambda: sink._broker.online)
        sink.write(result("cam-b-1"))
        sink.flush()
        listener.wait_for("spillover/pi/cam/result")
        assert len([entry for entry in log if entry["event"].startswith("birth messages")]) == 1
        sink.close()


def test_no_packet_is_taken_that_is_larger_than_any_answer():
    """A broker that announces 200 MB is left before they come, and the flush says why."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def announce():
            line = server.accept()[0]
            with line:
                line.recv(4096)
                line.sendall(b"\x20\x02\x00\x00")  # CONNACK
                line.sendall(b"\x30\x80\x84\xaf\x5f")  # PUBLISH, 200,000,000 bytes to come
                while line.recv(4096):
                    pass

        broker = threading.Thread(target=announce)
        broker.start()
        sink = _sink(server.getsockname()[1], pause=threading.Event().wait)
        sink.start()
        sink.write(result())
        _fails_with(sink, "sent a packet of 200000000 bytes")
        broker.join(WAIT_S)
        sink.close()


def test_a_login_that_is_refused_is_named(tmp_path):
    """The flush says what the broker answered, and which keys to look at."""
    (tmp_path / "passwords").touch()
    broker = Broker(tmp_path, f"allow_anonymous false\npassword_file {tmp_path / 'passwords'}\nuser root")
    broker.start()
    (tmp_path / "password").write_text("wrong")
    sink = _started(broker.port, username="pi", password_file=str(tmp_path / "password"))
    sink.write(result())
    _fails_with(sink, r"Not authorized\): check username and password_file")
    sink.close()
    broker.kill()


@pytest.mark.parametrize(
    ("host", "why"),
    [("127.0.0.1", "refuses connections"), ("nobody.invalid", "cannot be looked up")],
)
def test_a_broker_that_is_not_there_is_named_with_the_cause(host, why):
    """A refused port and a wrong name are told apart."""
    sink = _sink(free_port(), host=host, pause=threading.Event().wait)
    sink.start()
    sink.write(result())
    _fails_with(sink, why)
    sink.close()


def test_a_server_that_is_no_broker_is_named():
    """It ends the connection before any greeting; the cause says what to look at."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def end_at_once():
            server.accept()[0].close()

        hang_up = threading.Thread(target=end_at_once)
        hang_up.start()
        sink = _sink(server.getsockname()[1], pause=threading.Event().wait)
        sink.start()
        sink.write(result())
        _fails_with(sink, "ends the connection")
        hang_up.join(WAIT_S)
        sink.close()


def test_a_hundred_connections_leave_no_descriptor(broker):
    """A line that breaks again and again costs nothing that stays."""
    sink = _sink(broker.port, pause=lambda _: None)
    sink.start()
    open_then = None
    for number in range(110):
        wait_until(lambda: sink._broker.online)
        if number == 10:
            open_then = _descriptors()
        connection = sink._broker._connection
        _socket_of(sink).shutdown(socket.SHUT_RDWR)
        wait_until(lambda old=connection: sink._broker._connection is not old)
    wait_until(lambda: sink._broker.online)
    assert _descriptors() <= open_then + 3
    sink.close()


def _descriptors():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def _socket_of(sink):
    return sink._broker._connection.client.socket()


def _fails_with(sink, why):
    """Flush until the cause is known."""
    wait_until(lambda: re.search(why, _told_by_flush(sink)), lambda: _told_by_flush(sink))


def _told_by_flush(sink):
    with pytest.raises(OSError, match="broker ") as told:
        sink.flush()
    return str(told.value)
