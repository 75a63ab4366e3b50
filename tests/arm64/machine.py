"""An aarch64 machine in a folder: Debian's files, the project's wheel, and QEMU to run its Python.

It needs no root, no chroot and no binfmt: QEMU looks for every path below the folder first.
"""

import os
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from spillover.common.errors import SpilloverError
from spillover.common.files import write_atomic
from spillover.common.processes import bound
from spillover.lab.processes import ProcessFailedError, finish

QEMU = "qemu-aarch64-static"
_PROGRAMS = {QEMU: "qemu-user-static", "mmdebstrap": "mmdebstrap"}
_SUITES: Mapping[str, str] = {"3.11": "bookworm", "3.13": "trixie"}
PYTHONS = tuple(_SUITES)
_PACKAGES = "python3,libstdc++6,coreutils,ca-certificates,dash"
_PLATFORMS = (
    "manylinux_2_28_aarch64",
    "manylinux_2_27_aarch64",
    "manylinux_2_17_aarch64",
    "manylinux2014_aarch64",
)
_EXTRAS = "edge,cloud,mqtt,video,lab"
_TEST_TOOLS = ("pytest", "pytest-timeout", "hypothesis", "packaging")
_SOURCES = Path("/etc/apt")
_BUILD_LIMIT_S = 900.0

# A Cortex-A76, as in a Pi 5. The host's /proc/cpuinfo is another architecture's, on which libraries that read
# it there fail; without any they complain.
_CPUINFO = """\
processor\t: {number}
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x4
CPU part\t: 0xd0b
CPU revision\t: 1

"""
# Its own path is what sys.executable says, so that children which Python starts are emulated too.
_LAUNCHER = """\
#!/bin/sh
QEMU_CPU=cortex-a76 exec {qemu} -0 "$0" -L {root} {root}/usr/bin/python{version} "$@"
"""


def missing_programs() -> list[str]:
    """What this machine lacks, each with the Debian package that brings it."""
    return [
        f"{program} is not installed (Debian's {package} brings it)"
        for program, package in _PROGRAMS.items()
        if shutil.which(program) is None
    ]


@dataclass(frozen=True, slots=True)
class Machine:
    """A root with everything installed."""

    version: str
    """Of Python: 3.11 or 3.13."""
    root: Path

    @property
    def python(self) -> str:
        """The interpreter, as a program that this machine can start."""
        return str(self.root / "usr/bin/emulated-python")

    @property
    def packages(self) -> Path:
        """Where the wheels are."""
        return self.root / "opt/packages"

    def prefix(self, environment: Mapping[str, str]) -> list[str]:
        """What gives a command `environment` and nothing of this process's own but its PATH."""
        own = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.root / "root"),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(self.packages),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONSAFEPATH": "1",  # the wheel's code runs, not that of the checkout
        }
        return ["env", "-i", *(f"{name}={value}" for name, value in (own | dict(environment)).items())]

    def run(
        self,
        arguments: Sequence[str],
        log: Path,
        *,
        limit_s: float,
        environment: Mapping[str, str] | None = None,
    ) -> str:
        """Run this machine's Python; what it prints, of which errors are in `log`.

        Raises:
            ProcessFailedError: it failed, or took longer than `limit_s`.
        """
        command = bound([*self.prefix(environment or {}), self.python, *arguments])
        output = log.with_suffix(".out")
        with output.open("wb") as out, log.open("wb") as errors:
            process = subprocess.Popen(command, stdout=out, stderr=errors)
            try:
                finish(process, log, limit_s=limit_s)
            finally:
                process.kill()
                process.wait()
        return output.read_text(encoding="utf-8")


def build(version: str, wheel: Path, cache: Path) -> Machine:
    """The machine for a version of Python; Debian's part and the dependencies are taken from `cache`.

    Raises:
        SpilloverError: a package is not to be had.
    """
    root = cache / f"root-{version}"
    machine = Machine(version, root)
    if not (root / "ready").exists():
        shutil.rmtree(root, ignore_errors=True)
        _extract(root, version)
        _describe_processor(root)
        launcher = Path(machine.python)
        launcher.write_text(
            _LAUNCHER.format(qemu=shutil.which(QEMU), root=shlex.quote(str(root)), version=version)
        )
        launcher.chmod(0o755)
        write_atomic(root / "ready", b"")
    _install(machine, wheel)
    return machine


def project_wheel(folder: Path) -> Path:
    """Build the project's wheel from the current folder, a checkout. Raises SpilloverError."""
    shutil.rmtree(folder, ignore_errors=True)
    _pip("wheel", "--no-deps", "--wheel-dir", str(folder), ".")
    return next(folder.glob("spillover-*.whl"))


def _extract(root: Path, version: str) -> None:
    suite = _SUITES[version]
    root.parent.mkdir(parents=True, exist_ok=True)
    _call(
        "mmdebstrap",
        "--quiet",
        "--mode=chrootless",
        "--variant=extract",
        "--arch=arm64",
        f"--include={_PACKAGES}",
        suite,
        str(root),
        f"deb {_mirror()} {suite} main",
    )
    shutil.rmtree(root / "dev")  # devices are the host's; what was extracted here are none that work
    for name in ("lib", "bin"):  # links that a package's script makes, and nothing was configured here
        if not (root / name).exists():
            (root / name).symlink_to(f"usr/{name}")


def _describe_processor(root: Path) -> None:
    cpus = root / "sys/devices/system/cpu"
    cpus.mkdir(parents=True)
    for name in ("possible", "present"):
        (cpus / name).write_text("0-1\n", encoding="ascii")
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc/cpuinfo").write_text(
        "".join(_CPUINFO.format(number=number) for number in range(2)), encoding="ascii"
    )


def _mirror() -> str:
    """Debian's mirror that this machine uses.

    Raises:
        SpilloverError: none is configured.
    """
    lists = sorted([*_SOURCES.glob("sources.list"), *_SOURCES.glob("sources.list.d/*")])
    for path in lists:
        for line in path.read_text(encoding="utf-8").splitlines():
            words = [word for word in line.split() if not word.startswith("[")]
            if len(words) > 1 and words[0] in ("URIs:", "deb") and words[1].rstrip("/").endswith("/debian"):
                return words[1]
    raise SpilloverError(f"no mirror of Debian in {_SOURCES}/sources.list or sources.list.d")


def _install(machine: Machine, wheel: Path) -> None:
    """Install what the wheel needs unless that is there already, then the wheel itself."""
    target = ["--target", str(machine.packages), "--upgrade", "--only-binary=:all:", "--implementation", "cp"]
    target += ["--python-version", machine.version]
    target += [word for platform in _PLATFORMS for word in ("--platform", platform)]
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = repr((project["dependencies"], project["optional-dependencies"], _EXTRAS, _TEST_TOOLS)).encode()
    stamp = machine.root / "installed"
    if not stamp.exists() or stamp.read_bytes() != wanted:
        shutil.rmtree(machine.packages, ignore_errors=True)
        _pip("install", *target, f"{wheel}[{_EXTRAS}]", *_TEST_TOOLS)
        write_atomic(stamp, wanted)
    shutil.rmtree(machine.packages / "spillover", ignore_errors=True)
    _pip("install", "--no-deps", *target, str(wheel))


def _pip(*arguments: str) -> None:
    _call(sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments)


def _call(*command: str) -> None:
    """Run a program to its end.

    Raises:
        ProcessFailedError: it failed; the text holds what it wrote last.
    """
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=_BUILD_LIMIT_S
    )
    if done.returncode:
        raise ProcessFailedError(f"{shlex.join(command)}:\n{done.stdout.decode(errors='replace')[-3000:]}")
