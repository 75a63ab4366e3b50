"""Links that the kernel paces: real namespaces, where this machine has them."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from spillover.lab.loadtest.config import Shaper
from spillover.lab.loadtest.links import by_kernel, routes_to
from spillover.lab.shaper.kernel import clear_links, fits, kernel_link, why_not
from spillover.lab.shaper.link import Link, Schedule, constant
from tests.support.scripted_cloud import PATIENCE_S

DIE = """
import os, signal
from spillover.lab.shaper.kernel import kernel_link
from spillover.lab.shaper.link import Link
with kernel_link(Link(up_mbit_per_s=1)):
    os.kill(os.getpid(), signal.SIGKILL)
"""
SEND = """
import socket, sys
socket.create_connection((sys.argv[1], int(sys.argv[2]))).sendall(b"x" * 9000)
"""


@pytest.fixture
def namespaces() -> None:
    """Skip where there are none."""
    if why := why_not():
        pytest.skip(f"no kernel links here: {why}")


@pytest.fixture
def sink() -> Iterator[socket.socket]:
    """A server on the loopback interface that nobody has connected to."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE_S)
        yield server


def received(server: socket.socket) -> int:
    """Bytes of the next connection."""
    connection, _ = server.accept()
    with connection:
        connection.settimeout(PATIENCE_S)
        return sum(iter(lambda: len(connection.recv(4096)), 0))


@pytest.mark.usefixtures("namespaces")
def test_bytes_pass_the_kernel_and_are_counted(sink: socket.socket) -> None:
    """What runs at the far end of each edge's link reaches the server here, and the meter has seen it all."""
    schedule = constant(Link(rtt_ms=1, up_mbit_per_s=50, down_mbit_per_s=50))
    port = sink.getsockname()[1]
    with routes_to(f"127.0.0.1:{port}", schedule, 2, kernel=True) as routes:
        for route in routes.by_edge:
            host, _, near_port = route.address.rpartition(":")
            command = [*route.prefix, sys.executable, "-c", SEND, host, near_port]
            subprocess.run(command, check=True, timeout=PATIENCE_S)
            assert received(sink) == 9000
        assert routes.meter.traffic.up_bytes == 18_000
        assert routes.meter.link_now() == schedule.links[0]


@pytest.mark.usefixtures("namespaces")
def test_nothing_stays_behind() -> None:
    """When the block ends the namespace is gone, and with it both devices."""
    with kernel_link(Link(up_mbit_per_s=1, down_mbit_per_s=1)) as link:
        name = link.prefix[-1]
        assert name in _namespaces()
    assert name not in _namespaces()


@pytest.mark.usefixtures("namespaces")
def test_links_of_a_process_that_was_killed_are_removed() -> None:
    """By whoever runs next; those of a process that is there stay."""
    killed = subprocess.run([sys.executable, "-c", DIE], check=False, timeout=PATIENCE_S)
    assert killed.returncode == -signal.SIGKILL
    with kernel_link(Link(up_mbit_per_s=1)) as link:
        before = _namespaces().split()
        clear_links()
        left = _namespaces().split()
        assert link.prefix[-1] in left
    numbers = [int(name.removeprefix("spillover-")) for name in left if name.startswith("spillover-")]
    assert all(psutil.pid_exists(number // 64) for number in numbers)
    assert len(before) > len(left)


def test_links_that_change_stay_in_user_space() -> None:
    """A trace, or a link that lets nothing pass, is the proxy's, and the report says so."""
    trace = Schedule((0.0, 1.0), (Link(up_mbit_per_s=1), Link(up_mbit_per_s=2)))
    assert not fits(trace)
    assert not fits(constant(Link(up_mbit_per_s=0)))
    kernel, note = by_kernel(Shaper.AUTO, trace)
    assert (kernel, "user space" in note) == (False, True)
    assert by_kernel(Shaper.USER, trace) == (False, "")


def _namespaces() -> str:
    return subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
