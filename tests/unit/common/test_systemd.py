"""What systemd hears, on a real socket."""

import os
import socket
import time

import pytest

from spillover.common.systemd import Notifier


@pytest.fixture
def systemd(tmp_path):
    """A socket as systemd's, and the environment that names it."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(path)
        listener.settimeout(30)
        yield listener, {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}


def test_ready_alive_status_stopping(systemd):
    """Each is one datagram, with a status for people."""
    listener, environ = systemd
    notifier = Notifier(environ)
    notifier.ready("hybrid")
    notifier.alive("12 frames")
    notifier.status("loading")
    notifier.stopping("SIGTERM", 23.0)
    received = [listener.recv(4096) for _ in range(4)]
    assert received == [
        b"READY=1\nSTATUS=hybrid",
        b"WATCHDOG=1\nSTATUS=12 frames",
        b"STATUS=loading",
        b"STOPPING=1\nEXTEND_TIMEOUT_USEC=23000000\nSTATUS=SIGTERM",
    ]
    assert notifier.watchdog_s == 30.0


def test_a_status_of_several_lines_is_one(systemd):
    """A line of its own would be another message to systemd."""
    listener, environ = systemd
    Notifier(environ).ready("not reloaded: a\nSTOPPING=1")
    assert listener.recv(4096) == b"READY=1\nSTATUS=not reloaded: a; STOPPING=1"


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


def test_a_reload_says_when_it_began(systemd):
    """It is compared, in microseconds of the monotonic clock, with that of systemd's own request."""
    listener, environ = systemd
    before_us = time.monotonic_ns() // 1000
    Notifier(environ).reloading()
    said, _, since_us = listener.recv(4096).decode().rpartition("=")
    assert said == "RELOADING=1\nMONOTONIC_USEC"
    assert before_us <= int(since_us) <= time.monotonic_ns() // 1000


def test_a_watchdog_that_is_not_read_does_not_hold_up_who_feeds_it(systemd):
    """The queue of systemd is full: the message is dropped at once, also on an event loop."""
    listener, environ = systemd
    notifier = Notifier(environ)
    for _ in range(10_000):  # more than any queue of datagrams; each would wait a second
        notifier.alive("x")
    assert listener.recv(4096) == b"WATCHDOG=1\nSTATUS=x"
