"""The systemd units: how exposed they are, and that the server lives with what they leave it."""

import itertools
import os
import pwd
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import msgspec
import pytest
from cryptography import x509

from spillover.cloud.security.builders import SERVER
from spillover.common.wire.pb import spillover_pb2_grpc as pb_grpc
from tests.support.models import colour_classifier
from tests.support.pki import Pki
from tests.support.processes import LIMIT_S, free_port, wait_until
from tests.support.sandbox import ROOT, USER, managed, unprivileged
from tests.support.serving import CALL_S, jpeg_of, request_for
from tests.support.tools import tool

UNITS = Path(__file__).parents[2] / "deploy" / "systemd"
MOST_EXPOSED = 3.0


@pytest.mark.needs("systemd")
@pytest.mark.parametrize("name", ["spillover-cloud", "spillover-edge@"])
def test_a_unit_leaves_little_exposed(name):
    """The score that systemd gives it, from 0 (nothing) to 10 (everything), is at most 3."""
    assert _exposure("--offline=true", str(UNITS / f"{name}.service")) <= MOST_EXPOSED


@pytest.mark.needs("systemd")
def test_the_drop_in_for_cuda_exposes_little_more(tmp_path):
    """The devices of the driver and memory for its compiler do not push the score above 3."""
    folder = tmp_path / "etc/systemd/system"
    (folder / "spillover-cloud.service.d").mkdir(parents=True)
    (tmp_path / "usr/lib").mkdir(parents=True)
    shutil.copy(UNITS / "spillover-cloud.service", folder)
    alone = _exposure(f"--root={tmp_path}", "--offline=true", "spillover-cloud.service")
    shutil.copy(UNITS / "cuda.conf", folder / "spillover-cloud.service.d")
    with_cuda = _exposure(f"--root={tmp_path}", "--offline=true", "spillover-cloud.service")
    assert alone < with_cuda <= MOST_EXPOSED


def _exposure(*arguments: str) -> float:
    program = tool("systemd-analyze", "systemd")
    done = subprocess.run(
        [program, "security", *arguments], capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    return float(found[1])


@pytest.mark.needs("systemd")
def test_user_and_folders_are_made_as_the_units_want_them(tmp_path):
    """In a root of their own they become a user without a shell, and keys that only its group may read."""
    sysusers, tmpfiles = tool("systemd-sysusers", "systemd"), tool("systemd-tmpfiles", "systemd")
    if os.geteuid():
        pytest.skip("owners can be changed by root alone")
    for kind in ("sysusers", "tmpfiles"):
        (tmp_path / f"etc/{kind}.d").mkdir(parents=True)
        shutil.copy(UNITS / f"spillover.{kind}.conf", tmp_path / f"etc/{kind}.d/spillover.conf")
    key = tmp_path / "etc/spillover/tls/server.key"
    key.parent.mkdir(parents=True)
    key.write_text("secret")
    key.chmod(0o600)
    for command in (
        [sysusers, f"--root={tmp_path}"],
        [tmpfiles, f"--root={tmp_path}", "--create", "spillover.conf"],
    ):
        subprocess.run(command, check=True, capture_output=True, timeout=LIMIT_S)
    (entry,) = [line for line in (tmp_path / "etc/passwd").read_text().splitlines() if "spillover" in line]
    name, _, _, group, _, _, shell = entry.split(":")
    assert (name, shell) == ("spillover", "/usr/sbin/nologin")
    for path, mode in ((key, 0o640), (key.parent, 0o750), (key.parent.parent, 0o750)):
        status = path.stat()
        assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (0, int(group), mode), path
    assert (tmp_path / "srv/spillover/models").is_dir()


@pytest.mark.needs("sandbox")
def test_the_server_needs_no_rights_no_home_and_nothing_to_write_to(tmp_path):
    """As an unprivileged user on a read-only root it answers over mutual TLS, and SIGTERM ends it with 0.

    Keys belong to root and are readable for the group; one that is renewed is taken over.
    """
    with _sandboxed(tmp_path) as (process, address, pki):
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert re.search(r"^CapEff:\s0+$", status, re.MULTILINE)
        assert re.search(r"^NoNewPrivs:\s1$", status, re.MULTILINE)
        assert f"Uid:\t{pwd.getpwnam(USER).pw_uid}\t" in status
        assert b"HOME=" not in Path(f"/proc/{process.pid}/environ").read_bytes()
        mounts = [line.split() for line in Path(f"/proc/{process.pid}/mountinfo").read_text().splitlines()]
        assert {"rw" in options.split(",") for _, _, _, _, at, options, *_ in mounts if at == "/"} == {False}

        assert _answer(address, pki) == 0
        old = _serial_of(pki)
        pki.issue("cloud", SERVER, ("localhost", "127.0.0.1"))
        assert _serial_shown_at(address) == old  # the new key is root's alone, as it was written
        _hand_over(pki)
        assert _serial_shown_at(address) == _serial_of(pki) != old
        assert _answer(address, pki) == 0

        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 0, log
        assert "Traceback" not in log


@pytest.mark.needs("systemd")
def test_the_server_lives_in_the_units_own_sandbox(tmp_path):
    """Under its filter of system calls, without writable code, it answers, is reloaded, and stops with 0."""
    if os.geteuid():
        pytest.skip("owners can be changed by root alone")
    repository = tmp_path / "srv" / "models"
    colour_classifier(repository)
    program = tmp_path / "opt" / "bin" / "spillover"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m spillover.common.cli "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    (tmp_path / "etc").mkdir()
    address = f"127.0.0.1:{free_port()}"
    (tmp_path / "etc" / "cloud.yaml").write_text(f"listen: {address}\nmetrics: null\n")
    tmp_path.chmod(0o755)
    for path in (tmp_path / "etc", tmp_path / "etc" / "cloud.yaml"):
        _to_group(path)
    log = tmp_path / "log"
    unit = _moved((UNITS / "spillover-cloud.service").read_text(encoding="utf-8"), tmp_path, log)
    with managed("spillover-cloud.service", unit, [tmp_path]) as service:
        with grpc.insecure_channel(address) as channel:
            stub = pb_grpc.SpilloverStub(channel)
            reply = stub.Infer(request_for(jpeg_of((0, 0, 255))), timeout=CALL_S, wait_for_ready=True)
            assert reply.classification.class_id[0] == 0
            assert service.state()["ActiveState"] == "active"
            status = service.status_of("cloud")
            assert re.search(r"^Seccomp:\s2$", status, re.MULTILINE)
            assert f"Uid:\t{pwd.getpwnam(USER).pw_uid}\t" in status

            colour_classifier(repository, version="2")
            service.control("reload")
            _wait_for(log, "colour@2")
        service.control("stop")
        state = service.state()
    assert (state["ActiveState"], state["ExecMainStatus"], state["Result"]) == ("inactive", "0", "success")
    assert "Traceback" not in log.read_text()


@pytest.mark.needs("sandbox")
def test_the_edge_needs_its_state_folder_alone(tmp_path):
    """As an unprivileged user without a home, all else read-only: two lines, a daily budget and keys work.

    The model is found by its name in the state folder, and results, spool and budget are written there.
    """
    if os.geteuid():
        pytest.skip("owners can be changed by root alone")
    state, path = _edge_site(tmp_path)
    (tmp_path / "pki").mkdir()
    pki = Pki(tmp_path / "pki")
    pki.issue("camera")
    _hand_over(pki)
    two_lines = path.read_text(encoding="utf-8")
    config = msgspec.yaml.decode(two_lines) | {
        "mode": "hybrid",
        "uplink": {"address": f"localhost:{free_port()}", "tls": pki.edge_tls("camera")},
        "policy": {"budget": {"bytes": 50_000_000, "per": "day"}, "threshold": 0.0},
        "spool": {"path": "spool.dat", "max_mb": 2.0},
        "sinks": [{"kind": "jsonl", "path": "results.jsonl"}],
    }
    shown = [path.parent, pki.folder, tmp_path / "pictures"]
    for written in (two_lines, msgspec.yaml.encode(config).decode()):
        path.write_text(written, encoding="utf-8")
        command = [sys.executable, "-m", "spillover.common.cli", "edge", "-c", str(path)]
        process = subprocess.Popen(
            unprivileged(command, shown, _group(), state),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            lines = iter(process.stderr.readline, "")
            said = list(itertools.takewhile(lambda line: " ready " not in line, lines))
            assert process.poll() is None, said
            process.terminate()
            _, log = process.communicate(timeout=LIMIT_S)
        finally:
            process.kill()
            process.wait(LIMIT_S)
        assert process.returncode == 0, log
        assert "Traceback" not in log
    assert {"results.jsonl", "spool.dat", "budget-edge.json"} <= {entry.name for entry in state.iterdir()}


@pytest.mark.needs("systemd")
def test_the_edge_lives_in_the_units_own_sandbox(tmp_path):
    """Under its filter of system calls it answers, is reloaded, and is started again whatever ended it."""
    if os.geteuid():
        pytest.skip("owners can be changed by root alone")
    state, path = _edge_site(tmp_path)
    config = msgspec.yaml.decode(path.read_bytes()) | {"sinks": [{"kind": "jsonl", "path": "results.jsonl"}]}
    path.write_bytes(msgspec.yaml.encode(config))
    program = tmp_path / "opt" / "bin" / "spillover"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m spillover.common.cli "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    log, results = tmp_path / "log", state / "results.jsonl"
    unit = _moved_edge((UNITS / "spillover-edge@.service").read_text(encoding="utf-8"), tmp_path, log)
    with managed("spillover-edge@yard.service", unit, [tmp_path]) as service:
        _wait_for(log, " ready ")
        assert re.search(r"^Seccomp:\s2$", service.status_of("edge"), re.MULTILINE)
        path.write_text("camera: {", encoding="utf-8")
        service.control("reload")
        _wait_for(log, "not reloaded")
        results.rename(state / "results.jsonl.1")
        path.write_bytes(msgspec.yaml.encode(config))
        service.control("reload")
        _wait_for_file(results)
        assert service.state()["ActiveState"] == "active"
        # A wrong configuration at a start: it is tried again, and again, until somebody has mended it.
        path.write_text("camera: {", encoding="utf-8")
        service.control("kill", "--signal=KILL")
        _wait_for(log, "not valid YAML", times=4)
        assert service.state()["Result"] != "start-limit-hit"
        path.write_bytes(msgspec.yaml.encode(config))
        _wait_for(log, " ready ", times=2)
        service.control("stop")
        state_at_end = service.state()
    assert (state_at_end["ActiveState"], state_at_end["ExecMainStatus"]) == ("inactive", "0")
    assert "Traceback" not in log.read_text()


def _edge_site(folder):
    """A state folder with a model, and the configuration of two lines that names it."""
    state, pictures, etc = folder / "state" / "yard", folder / "pictures", folder / "etc"
    colour_classifier(state / "models", name="small")
    for path in (pictures, etc):
        path.mkdir()
    (pictures / "0.jpg").write_bytes(jpeg_of((0, 0, 255)))
    camera = {"source": str(pictures), "fps": 20, "loop": True}
    path = etc / "edge-yard.yaml"
    path.write_bytes(msgspec.yaml.encode({"camera": camera, "model": {"folder": "small/1"}}))
    for path_of_root in (etc, path):
        _to_group(path_of_root)
    folder.chmod(0o755)
    for entry in (state, *state.rglob("*")):
        shutil.chown(entry, USER, _group())
    return state, path


def _moved_edge(unit, folder, log):
    """As `_moved`; the pause between two starts is short, and the state folder one that the test has made."""
    for old, new in (
        ("/var/lib/spillover/%i", f"{folder}/state/%i"),
        ("StateDirectory=spillover/%i", f"ReadWritePaths={folder}/state/%i"),
        ("StateDirectoryMode=0750", ""),
        ("SupplementaryGroups=video render", ""),
        ("RestartSec=15", "RestartSec=100ms"),
    ):
        assert old in unit, old
        unit = unit.replace(old, new)
    return _moved(unit, folder, log)


def _wait_for_file(path):
    end = time.monotonic() + LIMIT_S
    while not path.exists():
        assert time.monotonic() < end, path
        time.sleep(0.01)


def _moved(unit, folder, log):
    """The unit with its paths below `folder`, for a user that is there, with a log that the test can read.

    Left out is what lays something over folders in which the tests themselves may be installed, or which a
    user's manager cannot lay over: /home and /root, parts of /proc.
    """
    for old, new in (
        ("/opt/spillover", f"{folder}/opt"),
        ("/etc/spillover", f"{folder}/etc"),
        ("User=spillover", f"User={USER}"),
        ("Group=spillover", f"Group={_group()}"),
        ("[Service]", f"[Service]\nEnvironment=PYTHONPATH={ROOT}\nStandardError=append:{log}"),
        ("ProtectHome=yes", ""),
        ("PrivateTmp=yes", ""),
        ("ProtectKernelTunables=yes", ""),
        ("ProtectKernelLogs=yes", ""),
    ):
        assert old in unit, old
        unit = unit.replace(old, new)
    return unit.replace("/srv/spillover", f"{folder}/srv")


def _wait_for(log, text, times=1):
    end = time.monotonic() + LIMIT_S
    while not log.exists() or log.read_text().count(text) < times:
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.01)


@contextmanager
def _sandboxed(folder):
    """A server in the sandbox: its process, its address and its PKI."""
    if os.geteuid():
        pytest.skip("owners can be changed by root alone")
    _to_group(folder)
    colour_classifier(folder / "models")
    (folder / "pki").mkdir()
    pki = Pki(folder / "pki")
    pki.issue("camera")
    _hand_over(pki)
    address = f"127.0.0.1:{free_port()}"
    config = {
        "listen": address,
        "metrics": None,
        "models": {"repository": str(folder / "models")},
        "security": {"tls": pki.server_tls(mutual=True)},
    }
    path = folder / "cloud.yaml"
    path.write_bytes(msgspec.yaml.encode(config))
    _to_group(path)
    command = [sys.executable, "-m", "spillover.common.cli", "cloud", "-c", str(path)]
    process = subprocess.Popen(unprivileged(command, [folder], _group()), stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: _takes_connections(address), process)
        yield process, address, pki
    finally:
        process.kill()
        process.wait(LIMIT_S)


def _hand_over(pki):
    """What the units' tmpfiles do: files are root's, their group reads them."""
    for path in (pki.folder, *pki.folder.iterdir()):
        if path.name != "ca.key":
            _to_group(path)


def _to_group(path):
    os.chown(path, 0, _group())
    path.chmod(0o750 if path.is_dir() else 0o640)


def _group():
    return pwd.getpwnam(USER).pw_gid


def _takes_connections(address):
    host, _, port = address.rpartition(":")
    with suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
        return True
    return False


def _answer(address, pki):
    """The class that the server sees in a red picture."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.secure_channel(address, pki.credentials("camera"), options) as channel:
        stub = pb_grpc.SpilloverStub(channel)
        reply = stub.Infer(request_for(jpeg_of((0, 0, 255))), timeout=CALL_S, wait_for_ready=True)
    return reply.classification.class_id[0]


def _serial_shown_at(address):
    host, _, port = address.rpartition(":")
    pem = ssl.get_server_certificate((host, int(port)), timeout=CALL_S)
    return x509.load_pem_x509_certificate(pem.encode()).serial_number


def _serial_of(pki):
    return x509.load_pem_x509_certificate(pki.certificate("cloud").read_bytes()).serial_number
