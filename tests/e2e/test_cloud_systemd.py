"""What a server tells systemd over its life, on a real socket."""

import re
import signal
import socket

import pytest

from tests.support.models import colour_classifier
from tests.support.processes import LIMIT_S, cloud_process


@pytest.fixture
def systemd(tmp_path, monkeypatch):
    """A socket as systemd's, which the process's environment names; the watchdog wants a sign each second."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(path)
        listener.settimeout(LIMIT_S)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        monkeypatch.setenv("WATCHDOG_USEC", "1000000")
        yield listener


def _next(listener, begin: str) -> str:
    """The next message that begins so; the signs of life before it are passed over."""
    while not (message := listener.recv(4096).decode()).startswith(begin):
        assert message.startswith("WATCHDOG=1\nSTATUS=")
    return message


def test_systemd_hears_of_ready_alive_reload_and_stop(tmp_path, systemd):
    """READY when it answers, WATCHDOG from the event loop, RELOADING and READY on SIGHUP, STOPPING."""
    repository = tmp_path / "models"
    colour_classifier(repository)
    models = {"repository": str(repository)}
    with cloud_process(tmp_path, models=models, stop_timeout_s=9.0) as (process, _):
        assert _next(systemd, "READY=1") == "READY=1\nSTATUS=ready"
        assert _next(systemd, "WATCHDOG=1\nSTATUS=ready")
        process.send_signal(signal.SIGHUP)
        assert re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=\d+", _next(systemd, "RELOADING"))
        assert _next(systemd, "READY=1") == "READY=1\nSTATUS=reloaded"
        repository.rename(tmp_path / "away")
        process.send_signal(signal.SIGHUP)
        _next(systemd, "RELOADING")
        said = _next(systemd, "READY=1")
        assert said.startswith("READY=1\nSTATUS=not reloaded: "), said
        assert ": models.repository: " in said
        process.send_signal(signal.SIGTERM)
        assert "EXTEND_TIMEOUT_USEC=10000000" in _next(systemd, "STOPPING=1")
        assert process.wait(LIMIT_S) == 0
