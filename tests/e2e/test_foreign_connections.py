"""Neither side reaches what its configuration does not name: no telemetry, no look-up, no file of its own."""

import os
import signal
import subprocess
import sys
import urllib.request

import cv2
import msgspec
import numpy as np
import pytest

from spillover.lab.processes import bound
from tests.support.connections import (
    Target,
    audited,
    changed_files,
    hooked,
    stracing,
    targets,
    wait_for_tracer,
)
from tests.support.models import colour_classifier
from tests.support.processes import LIMIT_S, cloud_process, edge_process, free_port, wait_until
from tests.support.serving import CALL_S

FRAMES = 10


@pytest.fixture
def edge_config(tmp_path):
    """A daemon that sends every frame, with a page for its metrics."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    cv2.imwrite(str(pictures / "0.png"), np.full((48, 64, 3), (0, 0, 255), np.uint8))
    return {
        "mode": "cloud_only",
        "metrics_address": f"127.0.0.1:{free_port()}",
        "camera": {"source": str(pictures), "fps": 20, "loop": True},
        "model": {"folder": str(colour_classifier(tmp_path / "small", name="small"))},
    }


def _run_both(tmp_path, edge_config, prefixes=None, environments=None):
    """Both sides, until the edge has some answers of the cloud and both have stopped; the cloud's address."""
    prefixes = prefixes or {"cloud": (), "edge": ()}
    environments = environments or {"cloud": {}, "edge": {}}
    models = tmp_path / "models"
    colour_classifier(models, name="big")
    cloud_page = f"127.0.0.1:{free_port()}"
    with cloud_process(models, prefix=prefixes["cloud"], env=environments["cloud"], metrics=cloud_page) as (
        cloud,
        address,
    ):
        edge_config["uplink"] = {"address": address}
        with edge_process(edge_config, tmp_path, prefixes["edge"], environments["edge"]) as edge:
            edge.read_until(lambda record: record.answered_by == "cloud", FRAMES)
            for page in (cloud_page, edge_config["metrics_address"]):
                with urllib.request.urlopen(f"http://{page}/metrics", timeout=CALL_S) as answer:
                    assert b"spillover" in answer.read()
            edge.process.send_signal(signal.SIGTERM)
            edge.read_to_end()
            assert edge.process.wait(LIMIT_S) == 0
        cloud.send_signal(signal.SIGTERM)
        assert cloud.wait(LIMIT_S) == 0
    return address


def test_python_connects_nowhere_and_looks_up_no_name(tmp_path, edge_config):
    """Python's own word: neither side opens a connection (gRPC's are native) or asks for a name."""
    sides = {side: tmp_path / f"{side}-trace" for side in ("cloud", "edge")}
    environments = {side: hooked(folder) for side, folder in sides.items()}
    _run_both(tmp_path, edge_config, environments=environments)
    assert {side: audited(folder) for side, folder in sides.items()} == {"cloud": [], "edge": []}


@pytest.mark.needs("strace")
def test_the_system_sees_no_connection_but_the_edges_to_its_cloud(tmp_path, edge_config):
    """The kernel's word, native code and child processes included: one address, and only from the edge."""
    sides = {side: tmp_path / f"{side}.strace" for side in ("cloud", "edge")}
    prefixes = {side: stracing(log) for side, log in sides.items()}
    address = _run_both(tmp_path, edge_config, prefixes=prefixes)
    found = {}
    for side, log in sides.items():
        wait_for_tracer(log)
        found[side] = set(targets(log.read_text(encoding="utf-8")))
    assert found == {"cloud": set(), "edge": {Target("INET", address)}}


@pytest.mark.needs("strace")
def test_an_edge_without_a_cloud_reaches_nothing_and_writes_what_it_is_told_to(tmp_path, edge_config):
    """`edge_only`, by the kernel's word: no connection, no datagram; no file but those of its sinks.

    A reload, a database and a folder for a home included, in which libraries would like to keep things.
    """
    home, log, state = tmp_path / "home", tmp_path / "strace", tmp_path / "state"
    for folder in (home, state):
        folder.mkdir()
    lines, database = state / "results.jsonl", state / "results.db"
    sinks = [{"kind": "jsonl", "path": str(lines)}, {"kind": "sqlite", "path": str(database)}]
    del edge_config["metrics_address"]
    path = tmp_path / "edge.yaml"
    path.write_bytes(msgspec.yaml.encode(edge_config | {"mode": "edge_only", "sinks": sinks}))
    command = [*stracing(log, files=True), sys.executable, "-m", "spillover.common.cli"]
    environment = os.environ | {"HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    for name in ("SPILLOVER_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        environment.pop(name, None)
    process = subprocess.Popen(
        bound([*command, "edge", "-c", str(path)], signal.SIGKILL),
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(lambda: lines.exists() and lines.read_bytes().count(b"\n") > FRAMES, process)
        process.send_signal(signal.SIGHUP)
        assert any(" reloaded " in line for line in iter(process.stderr.readline, ""))
        process.send_signal(signal.SIGTERM)
        _, rest = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 0, rest
    finally:
        process.kill()
        process.communicate()
    wait_for_tracer(log)
    text = log.read_text(encoding="utf-8")
    assert list(targets(text)) == []
    own = {str(lines), *(f"{database}{suffix}" for suffix in ("", "-wal", "-shm", "-journal"))}
    own |= {str(file.with_name(f".{file.name}.lock")) for file in (lines, database)}
    assert {str(lines), str(database)} <= changed_files(text) - {"/dev/null"} <= own
    assert list(home.iterdir()) == []


DIAL = """
import socket, sys
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    with socket.socket(socket.AF_INET, kind) as one:
        one.connect_ex(("127.0.0.1", int(sys.argv[1])))
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
    one.sendto(b"hello", ("127.0.0.1", int(sys.argv[1])))
with socket.socket(socket.AF_UNIX) as one:
    one.connect_ex("/nowhere")
"""


def test_the_audit_hook_notices_what_should_not_be(tmp_path):
    """A program that does connect and send is seen by the hook: each kind of call, with its address."""
    port = free_port()
    environment = hooked(tmp_path)
    subprocess.run([sys.executable, "-c", DIAL, str(port)], check=True, timeout=LIMIT_S, env=environment)
    where = f"('127.0.0.1', {port})"
    assert audited(tmp_path) == [
        f"socket.connect {where}",
        f"socket.connect {where}",
        f"socket.sendto {where}",
        "socket.connect '/nowhere'",
    ]


WRITE = """
import os, sys
folder = sys.argv[1]
open(f"{folder}/a", "w").close()
os.mkdir(f"{folder}/b")
os.rename(f"{folder}/a", f"{folder}/c")
os.close(os.open(f"{folder}/c", os.O_RDWR))
open(f"{folder}/c").close()
"""


@pytest.mark.needs("strace")
def test_strace_notices_what_is_written(tmp_path):
    """Files that are made, opened for writing or renamed, and folders; not those that are read."""
    log, folder = tmp_path / "log", tmp_path / "written"
    folder.mkdir()
    command = [*stracing(log, files=True), sys.executable, "-B", "-c", WRITE, str(folder)]
    subprocess.run(command, check=True, timeout=LIMIT_S)
    wait_for_tracer(log)
    assert changed_files(log.read_text(encoding="utf-8")) == {f"{folder}/{name}" for name in "abc"}


@pytest.mark.needs("strace")
def test_strace_notices_what_should_not_be(tmp_path):
    """The same program in a child process is seen by strace, sockets of a path included."""
    port, log = free_port(), tmp_path / "log"
    child = "import subprocess, sys; subprocess.run([sys.executable, *sys.argv[1:]], check=True)"
    command = [*stracing(log), sys.executable, "-c", child, "-c", DIAL, str(port)]
    subprocess.run(command, check=True, timeout=LIMIT_S)
    wait_for_tracer(log)
    assert list(targets(log.read_text(encoding="utf-8"))) == [
        *[Target("INET", f"127.0.0.1:{port}")] * 3,
        Target("UNIX", "/nowhere"),
    ]
