"""Reloads apart from a daemon: what nobody foresaw ends one of them, and neither the next nor the daemon."""

import socket
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from queue import SimpleQueue

from spillover.common.systemd import Notifier
from spillover.edge.config import CameraConfig, EdgeConfig, ModelConfig
from spillover.edge.reloads import Reloads
from spillover.edge.runtime.parts import Ended

LIMIT_S = 30


def test_a_reload_that_fails_as_nobody_foresaw_ends_for_systemd_too(tmp_path: Path) -> None:
    """Between RELOADING and READY systemd refuses the next one; and the status says what has happened."""
    config = EdgeConfig(model=ModelConfig(folder="m"), camera=CameraConfig(source="x"))
    faults = [ValueError("a fault of ours")]
    events: SimpleQueue[Ended] = SimpleQueue()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(LIMIT_S)

        def read() -> AbstractContextManager[EdgeConfig]:
            if faults:
                raise faults.pop()
            return nullcontext(config)

        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        reloads = Reloads(config, read, lambda _old, _new: True, events.put, notifier, lambda: reloads.note)
        for ending in ("STATUS=not reloaded: ValueError('a fault of ours')", "STATUS="):
            reloads.ask()
            assert reloads.takes(events.get(timeout=LIMIT_S))
            assert reloads.takes(events.get(timeout=LIMIT_S))
            assert systemd.recv(4096).startswith(b"RELOADING=1")
            assert systemd.recv(4096).decode() == f"READY=1\n{ending}"
