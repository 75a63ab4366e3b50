"""What systemd hears, on a real socket; and when a stage hangs."""

import os
import socket

import pytest

from spillover.edge.runtime.stall import StallDetector
from spillover.edge.runtime.systemd import Notifier


@pytest.fixture
def systemd(tmp_path):
    """A socket as systemd's, and the environment that names it."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(path)
        listener.settimeout(30)
        yield listener, {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}


def test_ready_alive_stopping(systemd):
    """Each is one datagram, with a status for people."""
    listener, environ = systemd
    notifier = Notifier(environ)
    notifier.ready("hybrid")
    notifier.alive("12 frames")
    notifier.stopping("SIGTERM")
    received = [listener.recv(4096) for _ in range(3)]
    assert received == [
        b"READY=1\nSTATUS=hybrid",
        b"WATCHDOG=1\nSTATUS=12 frames",
        b"STOPPING=1\nSTATUS=SIGTERM",
    ]
    assert notifier.watchdog_s == 30.0


def test_an_abstract_socket_is_known_by_its_at_sign():
    """The first character stands for a zero byte."""
    name = f"\0spillover-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(name)
        listener.settimeout(30)
        Notifier({"NOTIFY_SOCKET": "@" + name[1:]}).ready("x")
        assert listener.recv(100) == b"READY=1\nSTATUS=x"


@pytest.mark.parametrize(
    "environ", [{}, {"NOTIFY_SOCKET": "/no/such"}, {"WATCHDOG_USEC": "5", "WATCHDOG_PID": "1"}]
)
def test_without_systemd_nothing_happens(environ):
    """No socket, a dead one, or a watchdog meant for another process: no error, no watchdog."""
    notifier = Notifier(environ)
    notifier.ready("x")
    assert notifier.watchdog_s == 0.0


def test_a_pulse_tells_work_that_hangs_from_waiting():
    """Only work that began and did not end counts; waiting for frames may last for ever."""
    now = [0.0]
    stall = StallDetector(lambda: now[0])
    now[0] = 1e6
    assert not stall.hangs(5.0)
    with stall.working():
        now[0] += 4
        assert not stall.hangs(5.0)
        now[0] += 2
        assert stall.hangs(5.0)
    assert not stall.hangs(5.0)
