"""`spillover doctor` and a real Mosquitto: with a login, without one, and where there is no broker."""

import socket
import subprocess

import msgspec
import pytest

from spillover.edge.config import EdgeConfig
from spillover.edge.doctor import broker
from spillover.edge.doctor.broker import check_broker
from spillover.edge.doctor.case import Case
from spillover.edge.doctor.findings import Finding, State
from tests.integration.test_mqtt import MOSQUITTO, WAIT_S
from tests.support.processes import free_port
from tests.support.serving import eventually
from tests.support.tools import tool


def case(folder, **sink: object) -> Case:
    """A configuration with one MQTT sink."""
    values = {
        "camera": {"source": "x"},
        "model": {"folder": "y"},
        "sinks": [{"kind": "mqtt", "host": "127.0.0.1"} | sink],
    }
    return Case(msgspec.convert(values, EdgeConfig), folder / "edge.yaml")


def look(folder, **sink: object) -> Finding:
    """The one line of its check."""
    examined = case(folder, **sink)
    (finding,) = check_broker("sinks[0]", examined.config.sinks[0], examined)
    return finding


def test_a_port_where_nothing_listens_is_red(tmp_path):
    """The system's word for it."""
    told = look(tmp_path, port=free_port())
    assert told.state is State.FAILED
    assert "refuse" in told.figure


def test_what_is_no_broker_is_red(tmp_path, monkeypatch):
    """It takes the connection and says nothing."""
    monkeypatch.setattr(broker, "LIMIT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        told = look(tmp_path, port=silent.getsockname()[1])
    assert told.state is State.FAILED
    assert "says nothing" in told.figure


def test_a_password_file_that_is_not_there_is_red(tmp_path):
    """Before anybody is asked."""
    told = look(tmp_path, username="edge", password_file=str(tmp_path / "none"))
    assert told.state is State.FAILED
    assert "none" in told.figure


@pytest.mark.slow
@pytest.mark.needs("mqtt")
@pytest.mark.skipif(not MOSQUITTO, reason="no mosquitto here (Debian: apt-get install mosquitto)")
def test_a_login_is_tried(tmp_path):
    """The right password is green, a wrong one and none are red."""
    (tmp_path / "right").write_text("secret\n")
    (tmp_path / "wrong").write_text("guess\n")
    port, passwords = free_port(), tmp_path / "passwords"
    subprocess.run(
        [tool("mosquitto_passwd", "mosquitto"), "-b", "-c", str(passwords), "edge", "secret"],
        check=True,
        capture_output=True,
        timeout=WAIT_S,
    )
    passwords.chmod(0o644)
    tmp_path.chmod(0o755)
    (tmp_path / "broker.conf").write_text(
        f"user root\nlistener {port} 127.0.0.1\nallow_anonymous false\npassword_file {passwords}\n"
    )
    process = subprocess.Popen(
        [MOSQUITTO, "-c", str(tmp_path / "broker.conf")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until_listening(port)
        good = look(tmp_path, port=port, username="edge", password_file=str(tmp_path / "right"))
        bad = look(tmp_path, port=port, username="edge", password_file=str(tmp_path / "wrong"))
        nobody = look(tmp_path, port=port)
    finally:
        process.kill()
        process.wait(WAIT_S)
    assert [good.state, bad.state, nobody.state] == [State.OK, State.FAILED, State.FAILED]
    assert "accepts edge" in good.figure
    assert "username and password_file" in bad.cure


def until_listening(port: int) -> None:
    """Wait until something listens there."""

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    assert eventually(listens)
