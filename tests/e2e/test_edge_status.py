"""A real daemon whose disk fails, and one that is killed: what `spillover edge status` says of them."""

import signal
import subprocess
import sys

import cv2
import msgspec
import numpy as np
import pytest

from spillover.common.cli import EXIT_LOST
from spillover.common.errors import UnavailableError
from spillover.edge.status.ask import ask_device
from spillover.lab.processes import bound
from tests.support.models import colour_classifier
from tests.support.processes import LIMIT_S, SPILLOVER, wait_until
from tests.support.scripted_cloud import no_server_address

_PROGRAM = (sys.executable, "-m", "spillover.common.cli")
# No file of the process grows beyond this, as on a disk that is full; what it writes to a pipe may.
_FULL = (
    "import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536)); "
    "os.execvp(sys.argv[1], sys.argv[1:])"
)


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A state folder, and the configuration of a daemon without a cloud that writes to all kinds of files."""
    monkeypatch.setenv("SPILLOVER_HOME", str(tmp_path / "home"))
    (tmp_path / "pictures").mkdir()
    cv2.imwrite(str(tmp_path / "pictures" / "0.png"), np.full((48, 64, 3), 90, np.uint8))
    config = {
        "device_id": "pole-1",
        "mode": "cloud_only",
        "camera": {"source": str(tmp_path / "pictures"), "fps": 100, "loop": True},
        "model": {"folder": str(colour_classifier(tmp_path / "models")), "session": {"threads": 1}},
        "uplink": {"address": no_server_address()},
        "spool": {"path": str(tmp_path / "spool.dat"), "max_mb": 2.0},
        "sinks": [
            {"kind": "jsonl", "path": str(tmp_path / "results.jsonl")},
            {"kind": "sqlite", "path": str(tmp_path / "results.db")},
        ],
    }
    (tmp_path / "edge.yaml").write_bytes(msgspec.yaml.encode(config))
    return tmp_path


def start(site, *prefix):
    """The daemon, its log in a pipe."""
    return subprocess.Popen(
        bound([*prefix, *_PROGRAM, "edge", "-c", str(site / "edge.yaml")], signal.SIGKILL),
        stderr=subprocess.PIPE,
        text=True,
    )


def answer():
    """The daemon's answer; None while it has not started."""
    try:
        return ask_device("pole-1")
    except UnavailableError:
        return None


def status(site):
    """What the command says of it."""
    return subprocess.run(
        [*SPILLOVER, "edge", "status", "-c", str(site / "edge.yaml")],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def test_a_daemon_on_a_full_disk_says_what_fails_and_never_that_books_balance(site):
    """Spool, JSON lines and SQLite all refused: each is named with its cause, and the exit code is 8."""
    daemon = start(site, sys.executable, "-c", _FULL)
    try:

        def all_fail():
            found = answer()
            return bool(found and found.spool.refused and all(sink.failing for sink in found.sinks))

        wait_until(all_fail, daemon)
        shown = status(site)
    finally:
        daemon.kill()
        daemon.communicate()
    assert shown.returncode == EXIT_LOST
    assert "books balance" not in shown.stdout
    lost = [line for line in shown.stdout.splitlines() if line.startswith(("LOST", "FAILS"))]
    assert [line for line in lost if "the spool cannot use its disk" in line and "File too large" in line]
    assert [line for line in lost if "the spool has refused" in line and "disk failed" in line]
    assert [line for line in lost if "sink 0:jsonl fails" in line and "File too large" in line]
    assert [line for line in lost if "sink 1:sqlite fails" in line]


def test_a_daemon_that_is_killed_is_absent_and_its_successor_answers(site):
    """The socket that is left behind says nothing; SIGTERM removes it."""
    first = start(site)
    wait_until(answer, first)
    first.kill()
    first.communicate()
    assert (site / "home" / "edge-pole-1.sock").is_socket()
    assert answer() is None
    second = start(site)
    wait_until(answer, second)
    second.send_signal(signal.SIGTERM)
    second.communicate(timeout=LIMIT_S)
    assert second.returncode == 0
    assert list((site / "home").glob("*.sock")) == []
