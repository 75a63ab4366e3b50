"""SIGHUP of a running daemon with an MQTT sink, against a real Mosquitto."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.models import centre_detector
from tests.support.mosquitto import MOSQUITTO, WAIT_S, Broker, Listener
from tests.support.processes import free_port
from tests.support.reloaded_edge import Site

STATUS, STATE = "spillover/pi/status", "spillover/pi/camera/camera_state"
RESULT = "spillover/pi/camera/result"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.needs("mqtt"),
    pytest.mark.skipif(not MOSQUITTO, reason="no mosquitto here (Debian: apt-get install mosquitto)"),
]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site in a folder of its own."""
    return Site(tmp_path)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker that runs."""
    broker = Broker(tmp_path)
    broker.start()
    yield broker
    broker.kill()


def _sections(site: Site, *mqtt: dict[str, Any]) -> dict[str, Any]:
    """The device `pi` with a file, whose results the tests wait for, and these MQTT sinks."""
    sinks = [{"kind": "mqtt", "host": "127.0.0.1"} | sink for sink in mqtt]
    return {"device_id": "pi", "sinks": [site.sink(site.lines), *sinks]}


def _next_frame(listener: Listener, topic: str) -> int:
    """The number of the next frame whose result comes."""
    return int(json.loads(listener.wait_for(topic)[1])["sequence"])


def test_a_wrong_port_is_mended_and_the_broker_told_everything(site: Site, broker: Broker) -> None:
    """Discovery, `online` and the camera's state, which was known before, then the results."""
    with Listener(broker.port) as listener, site.running(**_sections(site, {"port": free_port()})):
        site.until(lambda: any(entry["event"] == "sink fails" for entry in site.entries()))
        site.write(**_sections(site, {"port": broker.port}))
        assert site.hang_up()["changed"] == ["sinks"]
        announced = "homeassistant/sensor/spillover_pi_camera_objects/config"
        listener.wait_for_each({announced: None, STATUS: b"online", STATE: b"ok"})
        first = _next_frame(listener, RESULT)
        assert _next_frame(listener, RESULT) > first


def test_a_topic_that_changes_leaves_the_old_one_offline(site: Site, broker: Broker) -> None:
    """Who looks there sees that nothing comes any more; the new one has all, and no result is lost."""
    with Listener(broker.port) as listener, site.running(**_sections(site, {"port": broker.port})):
        listener.wait_for_each({STATUS: b"online", STATE: b"ok"})
        _next_frame(listener, RESULT)
        site.write(**_sections(site, {"port": broker.port, "topic": "house"}))
        assert site.hang_up()["changed"] == ["sinks"]
        listener.wait_for_each(
            {
                STATUS: b"offline",
                "house/pi/status": b"online",
                "house/pi/camera/camera_state": b"ok",
            }
        )
        _next_frame(listener, "house/pi/camera/result")
        site.write(**_sections(site))
        site.hang_up()
        listener.wait_for("house/pi/status", b"offline")
    assert not any(key.startswith("results_dropped") for key in site.books())


def test_a_setting_that_changes_loses_nothing(site: Site, broker: Broker) -> None:
    """Another connection takes the place of the old one; what was not confirmed comes again."""
    numbers: set[int] = set()
    with Listener(broker.port) as listener, site.running(**_sections(site, {"port": broker.port})):
        numbers.add(_next_frame(listener, RESULT))
        site.write(**_sections(site, {"port": broker.port, "discovery_prefix": "ha"}))
        assert site.hang_up()["changed"] == ["sinks"]
        with Listener(broker.port) as other:
            other.wait_for_each({"ha/sensor/spillover_pi_camera_objects/config": None, STATE: b"ok"})
            last = _next_frame(other, RESULT)
        while last not in numbers:
            numbers.add(_next_frame(listener, RESULT))
    assert numbers == set(range(max(numbers) + 1))
    assert not any(key.startswith("results_dropped") for key in site.books())


def test_a_new_zone_is_announced_and_one_that_is_gone_is_empty(site: Site, broker: Broker) -> None:
    """The sink's own settings are as before: what it announces is not."""

    def zones(name: str) -> dict[str, Any]:
        return {"zones": [{"name": name, "polygon": [[0, 0], [1, 0], [1, 1], [0, 1]]}]}

    model = {"folder": str(centre_detector(site.folder / "models")), "session": {"threads": 1}}
    sections = _sections(site, {"port": broker.port}) | {"model": model}
    below = "spillover/pi/camera/zones"
    with Listener(broker.port) as listener, site.running(**sections, events=zones("door")):
        listener.wait_for(f"{below}/door/count", b"1")
        site.write(**sections, events=zones("yard"))
        assert site.hang_up()["changed"] == ["events.zones"]
        announced = "homeassistant/sensor/spillover_pi_camera_zone_yard_count/config"
        listener.wait_for_each({announced: None, f"{below}/yard/count": b"1", f"{below}/door/count": b"0"})


def test_a_password_that_was_wrong_or_is_renewed_needs_no_restart(site: Site, tmp_path: Path) -> None:
    """The file is read before each connection: mending it is enough, as it is for a camera's."""
    accounts, password = tmp_path / "accounts", tmp_path / "password"
    words = ["mosquitto_passwd", "-b", "-c", str(accounts), "pi", "right"]
    subprocess.run(words, check=True, capture_output=True, timeout=WAIT_S)
    login = f"allow_anonymous false\npassword_file {accounts}\nacl_file {tmp_path / 'acl'}\nuser root"
    (tmp_path / "acl").write_text("topic read #\nuser pi\ntopic readwrite #\n")
    broker = Broker(tmp_path, login)
    broker.start()
    password.write_text("wrong")
    sink = {"port": broker.port, "username": "pi", "password_file": str(password)}
    try:
        with site.running(**_sections(site, sink)):
            site.until(lambda: "check username and password_file" in site.log.read_text())
            password.write_text("right")
            site.until(lambda: any(entry["event"] == "sink works again" for entry in site.entries()))
    finally:
        broker.kill()
