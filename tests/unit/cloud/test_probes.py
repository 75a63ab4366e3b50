"""`/livez` shows an event loop that is stuck, and `/readyz` why a server is not ready."""

import asyncio
import socket

import pytest

from spillover.cloud.serving.probes import STUCK_S, Heartbeat, livez, readyz, status_of
from spillover.cloud.serving.readiness import DRAINING, LOADING, Readiness
from spillover.common.systemd import SILENT, Notifier


class Clock:
    """Monotonic seconds that a test moves."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        """The current second."""
        return self.now_s


def _asked(app) -> tuple[int, str]:
    """Status and text of a page."""
    statuses = []
    body = b"".join(app({}, lambda status, headers: statuses.append(int(status[:3]))))
    return statuses[0], body.decode()


def test_a_loop_that_does_not_turn_is_not_alive():
    """200 as long as the last beat is young, 503 after that, and 200 again when the loop turns again."""
    clock = Clock()
    heartbeat = Heartbeat(clock)
    page = livez(heartbeat)

    async def beat() -> None:
        task = asyncio.ensure_future(heartbeat.run(Readiness(), SILENT))
        await asyncio.sleep(0)
        task.cancel()

    clock.now_s += STUCK_S
    assert _asked(page) == (200, "ok\n")
    clock.now_s += 2.0
    assert _asked(page) == (503, "the event loop has not answered for 12 s\n")
    asyncio.run(beat())
    assert _asked(page) == (200, "ok\n")


def test_the_watchdog_is_fed_by_the_event_loop_alone(tmp_path):
    """While something keeps the loop from turning, systemd hears nothing; before and after, it does."""
    path = str(tmp_path / "notify")
    notifier = Notifier({"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "30000"})

    async def scenario(systemd: socket.socket) -> None:
        beating = asyncio.ensure_future(Heartbeat().run(Readiness(), notifier))
        await asyncio.sleep(0)
        assert systemd.recv(4096) == f"WATCHDOG=1\nSTATUS={LOADING}".encode()
        systemd.settimeout(0.3)
        with pytest.raises(TimeoutError):  # this wait is what keeps the loop
            systemd.recv(4096)
        systemd.setblocking(False)
        assert await asyncio.get_running_loop().sock_recv(systemd, 4096)
        beating.cancel()

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(path)
        asyncio.run(scenario(systemd))


def test_the_reasons_are_said_one_a_line():
    """Loading, ready, missing models, stopping; after that nothing makes it ready again."""
    readiness = Readiness()
    page = readyz(readiness)
    assert _asked(page) == (503, f"{LOADING}\n")
    readiness.missing([])
    assert _asked(page) == (200, "ok\n")
    assert status_of(readiness) == "ready"
    readiness.missing(["a is away", "b is away"])
    assert _asked(page) == (503, "a is away\nb is away\n")
    assert status_of(readiness) == "a is away; b is away"
    readiness.drain()
    readiness.missing([])
    assert _asked(page) == (503, f"{DRAINING}\n")
