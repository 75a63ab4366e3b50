"""A bare Debian in a folder, of the machine's own release and from its own mirrors, to install into."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.tools import tool

ROOT = Path(__file__).parents[2]
LIMIT_S = 900
_PACKAGES = "python3,python3-venv,systemd,procps,util-linux"
_PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17")
_REQUIREMENTS = ROOT / "deploy" / "requirements" / "edge-mqtt-video.txt"

# Mounts of its own for what programs look for in /proc and /dev; they end with the processes.
_INSIDE = """
root=$1; shift
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/dev"
for name in null zero random urandom; do
    touch "$root/dev/$name"
    mount --bind "/dev/$name" "$root/dev/$name"
done
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels NO_COLOR=1 \\
    chroot "$root" "$@"
"""


class Debian:
    """The system below `root`: in /src the folder `deploy` and the wheel, in /wheels what the wheel needs."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def command(self, *words: str) -> list[str]:
        """What runs `words` inside, without a network for pip."""
        spaces = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"]
        return [*spaces, "sh", "-ec", _INSIDE, "sh", str(self.root), *words]

    def run(self, *words: str) -> str:
        """Run `words` inside to a good end; what they print on both outputs."""
        done = _done(self.command(*words))
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr


def bare_debian(folder: Path) -> Debian:
    """Make one below `folder`; the test skips where rights, program or network are missing."""
    mmdebstrap = tool("mmdebstrap", "mmdebstrap")
    if os.geteuid():
        pytest.skip("root alone may change its root")
    lines = [line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line]
    release = dict(lines).get("VERSION_CODENAME", "").strip('"')
    archive, root = folder / "root.tar", folder / "root"
    made = _done(
        [
            mmdebstrap,
            "--variant=minbase",
            "--quiet",
            f"--include={_PACKAGES}",
            release,
            str(archive),
            *_sources(),
        ]
    )
    if made.returncode:
        pytest.skip(f"mmdebstrap could not make a system: {made.stderr[-300:]}")
    root.mkdir()
    _must(["tar", "-C", str(root), "-xf", str(archive), "--exclude=./dev/*"])
    archive.unlink()
    system = Debian(root)
    version = system.run("python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])").strip()
    _fetch(root / "wheels", version)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation"]
    _must([*build, "--outdir", str(root / "src"), str(ROOT)])
    _must(["cp", "-r", str(ROOT / "deploy"), str(root / "src" / "deploy")])
    return system


def _sources() -> list[str]:
    """The files in which the machine's apt finds Debian."""
    apt = Path("/etc/apt")
    files = [apt / "sources.list", *apt.glob("sources.list.d/*.sources"), *apt.glob("sources.list.d/*.list")]
    return [str(path) for path in files if path.exists() and "debian" in path.read_text()]


def _fetch(folder: Path, version: str) -> None:
    """What a Python of this version needs to run the edge, from where this machine's pip finds packages."""
    platforms = [f"--platform={tag}_{os.uname().machine}" for tag in _PLATFORMS]
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
    checked = ["--require-hashes", "--only-binary=:all:", "--requirement", str(_REQUIREMENTS)]
    done = _done([*download, *checked, f"--python-version={version}", *platforms])
    if done.returncode:
        pytest.skip(f"pip could not fetch the packages: {done.stderr[-300:]}")


def _done(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)


def _must(command: Sequence[str]) -> None:
    done = _done(command)
    assert done.returncode == 0, done.stderr
