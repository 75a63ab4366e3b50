"""deploy/install-edge.sh: it refuses what cannot work, and in a bare Debian it leaves a daemon that runs."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from spillover.lab.processes import bound
from tests.support.debian import LIMIT_S, ROOT, Debian, bare_debian
from tests.support.models import colour_classifier
from tests.support.tools import tool

SCRIPT = ROOT / "deploy" / "install-edge.sh"


_PYTHON = ["/opt/spillover/bin/python", "-c"]


def _stand_in(folder: Path, name: str, body: str) -> None:
    """A program of the system that says what another system's would."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    path.chmod(0o755)


MACHINE = {
    "id": "echo 0",
    "uname": 'if [ "$1" = -m ]; then echo aarch64; else echo Linux; fi',
    "getconf": 'case $1 in GNU_LIBC_VERSION) echo "glibc 2.36";; LONG_BIT) echo 64;; esac',
}
"""A Pi on which everything is right up to its Python."""
OLD_PYTHON = "echo 'is Python 3.9' >&2; exit 1"


@pytest.mark.parametrize(
    ("programs", "words"),
    [
        ({"id": "echo 1000"}, ["needs root", "sudo sh"]),
        ({"uname": "echo Darwin"}, ["Darwin, not Linux"]),
        ({"getconf": "exit 1"}, ["no glibc", "Raspberry Pi OS"]),
        ({"getconf": "echo glibc 2.24"}, ["glibc is 2.24", "Upgrade"]),
        (
            {"getconf": 'case $1 in LONG_BIT) echo 32;; *) echo "glibc 2.36";; esac'},
            ["32-bit", "64-bit Raspberry Pi OS"],
        ),
        ({"uname": 'if [ "$1" = -m ]; then echo riscv64; else echo Linux; fi'}, ["riscv64", "aarch64"]),
        ({"python3": OLD_PYTHON}, ["python3 is Python 3.9", "apt-get install python3"]),
        ({}, ["--python", "own-python lies in", "where the service may not look"]),
    ],
)
def test_a_machine_that_cannot_run_it_is_told_why_and_what_to_do(tmp_path, programs, words):
    """Before anything is written: rights, system, C library, 32 bits, processor, Python."""
    for name, body in (MACHINE | programs).items():
        _stand_in(tmp_path, name, body)
    for name in ("python3.13", "python3.12", "python3.11", "python3"):
        if not (tmp_path / name).exists():
            _stand_in(tmp_path, name, "exit 1")
    arguments = []
    if not programs:
        home = "import sys; sys.base_prefix = '/home/pi/python'; exec(sys.argv[1])"
        _stand_in(tmp_path, "own-python", f'exec {sys.executable} -c "{home}" "$2"')
        arguments = ["--python", "own-python"]
    done = _run(arguments, tmp_path)
    assert done.returncode == 1
    assert all(word in done.stderr for word in words), done.stderr
    assert not done.stdout


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--purge"], "--uninstall"),
        (["--instance", "../etc"], "'../etc'"),
        (["--instance"], "wants a value"),
        (["--frobnicate"], "--frobnicate"),
        (["a.whl", "b.whl"], "a.whl and b.whl"),
    ],
)
def test_wrong_usage_is_named(tmp_path, arguments, word):
    """Nothing is done then."""
    done = _run(arguments, tmp_path)
    assert done.returncode == 1
    assert word in done.stderr


def test_help_is_given_without_rights(tmp_path):
    """And names each option."""
    done = _run(["--help"], tmp_path)
    assert done.returncode == 0
    assert all(
        word in done.stdout for word in ("SOURCE", "--instance", "--video", "--uninstall", "--purge", "/opt")
    )


def _run(arguments: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """The script, with stand-ins from `folder` before the system's own programs."""
    environment = {"PATH": f"{folder}:/usr/bin:/bin"}
    return subprocess.run(
        ["sh", str(SCRIPT), *arguments],
        env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False,
    )  # fmt: skip


@pytest.mark.needs("shellcheck")
def test_shellcheck_finds_nothing():
    """Of any severity."""
    command = [tool("shellcheck", "shellcheck"), str(SCRIPT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def debian(tmp_path_factory) -> Debian:
    """Skips but where it is asked for, as it takes minutes and the network."""
    tool("mmdebstrap", "mmdebstrap")
    if not {"mmdebstrap", "all"} & set(os.environ.get("SPILLOVER_REQUIRE", "").split(",")):
        pytest.skip("takes minutes and the network: `make install-test` runs it")
    return bare_debian(tmp_path_factory.mktemp("debian"))


@pytest.mark.needs("mmdebstrap")
@pytest.mark.timeout(3 * LIMIT_S)
def test_a_bare_debian_gets_a_daemon_that_runs_and_gets_rid_of_it(debian):
    """Installed again with video, then without a word of it: both stay; run as the unit would; removed."""
    (wheel,) = (debian.root / "src").glob("*.whl")
    install = ["sh", "/src/deploy/install-edge.sh", f"/src/{wheel.name}", "--instance", "yard"]
    said = debian.run(*install)
    assert "nothing is started" in said
    assert "systemctl enable --now spillover-edge@yard" in said
    said_next = said
    said = debian.run("systemd-analyze", "verify", "--man=no", "spillover-edge@yard.service")
    assert said == ""

    config = debian.root / "etc/spillover/edge-yard.yaml"
    assert debian.run("stat", "-c", "%U:%G %a", "/etc/spillover/edge-yard.yaml") == "root:spillover 640\n"
    key = debian.root / "etc/spillover/tls/camera.key"
    key.write_text("secret")
    key.chmod(0o600)
    state = debian.root / "var/lib/spillover/yard"
    colour_classifier(state / "models", name="model")
    pictures = state / "pictures"
    pictures.mkdir()
    _picture(pictures / "0.png")
    changed = config.read_text().replace("/dev/video0", "pictures")
    config.write_text(changed)

    without = [*_PYTHON, "import importlib.util; assert importlib.util.find_spec('av') is None"]
    debian.run(*without)
    debian.run(*install, "--video")
    debian.run(*install)
    debian.run(*_PYTHON, "import av")
    assert config.read_text() == changed
    assert debian.run("stat", "-c", "%U:%G %a", "/etc/spillover/tls/camera.key") == "root:spillover 640\n"
    debian.run("chown", "-R", "spillover:spillover", "/var/lib/spillover/yard")
    _runs_in(debian, state)
    program = "/opt/spillover/bin/spillover doctor -c /etc/spillover/edge-yard.yaml"
    place = "-C /var/lib/spillover/yard SPILLOVER_HOME=/var/lib/spillover/yard"
    user = "setpriv --reuid=spillover --regid=spillover --groups=video,render"
    assert [one for one in (place, user, program) if one not in said_next] == []
    table = debian.run("env", *place.split(), *user.split(), *program.split())
    assert "camera camera  ok" in table

    debian.run("sh", "/src/deploy/install-edge.sh", "--uninstall")
    gone = ["opt/spillover", "etc/systemd/system/spillover-edge@.service", "etc/sysusers.d/spillover.conf"]
    assert [path for path in gone if (debian.root / path).exists()] == []
    assert config.exists()
    assert (state / "results.jsonl").exists()
    debian.run("sh", "/src/deploy/install-edge.sh", "--uninstall", "--purge")
    assert [path for path in ("etc/spillover", "var/lib/spillover") if (debian.root / path).exists()] == []
    assert "spillover" not in (debian.root / "etc/passwd").read_text()


def _runs_in(debian: Debian, state: Path) -> None:
    """The daemon as the unit's user, in its folder, without a home: it writes results there."""
    user = ["setpriv", "--reuid=spillover", "--regid=spillover", "--init-groups", "--no-new-privs"]
    place = ["env", "--chdir=/var/lib/spillover/yard", "SPILLOVER_HOME=/var/lib/spillover/yard"]
    program = ["/opt/spillover/bin/spillover", "edge", "-c", "/etc/spillover/edge-yard.yaml"]
    process = subprocess.Popen(
        bound(debian.command(*place, *user, *program), signal.SIGKILL), stderr=subprocess.PIPE, text=True
    )
    try:
        end = time.monotonic() + LIMIT_S
        while not (state / "results.jsonl").exists():
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < end
            time.sleep(0.05)
    finally:
        process.kill()
        process.communicate()


def _picture(path: Path) -> None:
    cv2.imwrite(str(path), np.full((32, 32, 3), 90, np.uint8))
