"""A process in a mount namespace of its own: read-only root, another user, no rights, a bare environment."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from spillover.common.processes import bound
from tests.support.tools import tool

USER = "nobody"
"""Who the process is: a user that every system has, without rights and without a home."""
ROOT = Path(__file__).parents[2]
_LIMIT_S = 60.0

# Keeps what the process needs in sight (`SHOWN`), although folders above are closed to others (`CLOSED`, as
# /root and pytest's own are): it is held elsewhere, an open folder laid over the closed one, and put back.
_NAMESPACE = """
mount -t tmpfs tmpfs /mnt
number=0
for folder in $SHOWN; do
    mkdir "/mnt/$number" && mount --rbind "$folder" "/mnt/$number"; number=$((number + 1))
done
for folder in $CLOSED; do mount -t tmpfs -o mode=0755 tmpfs "$folder"; done
number=0
for folder in $SHOWN; do
    mkdir -p "$folder" && mount --rbind "/mnt/$number" "$folder"; number=$((number + 1))
done
umount --lazy --recursive /mnt
"""

# Not every mount lets itself be remounted; that of / must, and the test looks.
_READ_ONLY = """
findmnt --raw --noheadings --output TARGET | while read -r target; do
    mount -o remount,bind,ro "$target" 2> /dev/null || true
done
"""

# A user's manager, which does what the machine's does, and leaves the machine alone. It wants to see that the
# machine was booted by systemd. Not the namespace's first process, or it would take itself for the machine's.
# Without a mask its socket for notifications is open to the service's user. It moves every process of the
# control groups in which it starts, so it starts in groups of its own (`OWN`).
_MANAGER = """
for folder in $OWN; do echo $$ > "$folder/cgroup.procs"; done
mount -t tmpfs -o mode=0755 tmpfs /run
mkdir -p /run/systemd/system
umask 0
"$@" &
wait
"""

_BECOME = [
    "setpriv", "--pdeathsig", "KILL", f"--reuid={USER}", "--regid={group}", "--clear-groups",
    "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs",
]  # fmt: skip


def unprivileged(
    command: Sequence[str], shown: Sequence[Path], group: int, state: Path | None = None
) -> list[str]:
    """`command` as `USER` of `group`, everything read-only, `shown` and this interpreter in sight, no HOME.

    `state` alone, where given, may be written to; it is the working folder, and SPILLOVER_HOME. The test
    skips where that needs more rights or programs than there are. The process keeps its id.
    """
    become = [word.format(group=group) for word in _BECOME]
    environment = ["env", "-i", "PATH=/usr/bin:/bin", f"PYTHONPATH={ROOT}"]
    script = _NAMESPACE + _READ_ONLY
    if state is not None:
        shown = [*shown, state]
        environment.append(f"SPILLOVER_HOME={state}")
        script += f"mount -o remount,bind,rw '{state}'\ncd '{state}'\n"
    return _in_namespace(shown, script + 'exec "$@"', [*become, *environment, *command])


class Service:
    """A unit that a manager of its own has started."""

    def __init__(self, manager: psutil.Process, name: str, runtime: Path) -> None:
        self._manager = manager
        self._name = name
        self._environment = os.environ | {"XDG_RUNTIME_DIR": str(runtime)}

    def control(self, verb: str, *options: str) -> str:
        """What `systemctl VERB` of this unit prints; it must succeed."""
        return self._ask(verb, *options, self._name)

    def end(self) -> None:
        """End the manager."""
        self._ask("exit", "--force")

    def _ask(self, *words: str) -> str:
        # From within: the manager hangs up on those whose process id it cannot see.
        inside = ["nsenter", f"--target={self._manager.children()[0].pid}", "--mount", "--pid"]
        command = [*inside, "systemctl", "--user", *words]
        done = subprocess.run(
            command, env=self._environment, capture_output=True, text=True, timeout=_LIMIT_S, check=False
        )
        assert not done.returncode, done.stderr
        return done.stdout

    def state(self) -> dict[str, str]:
        """What systemd knows of it, by property."""
        return dict(line.split("=", 1) for line in self.control("show").splitlines() if "=" in line)

    def status_of(self, word: str) -> str:
        """/proc/PID/status of its process whose command line has `word`."""
        (process,) = [one for one in self._manager.children(recursive=True) if word in one.cmdline()]
        return Path(f"/proc/{process.pid}/status").read_text()


@contextmanager
def managed(name: str, text: str, shown: Sequence[Path]) -> Iterator[Service]:
    """Run the unit `text` by systemd's manager, in namespaces whose end is that of all its processes."""
    program = tool("systemd", "systemd", "/lib/systemd:/usr/lib/systemd")
    tool("systemctl", "systemd")
    # Short: a socket's path has at most 108 bytes.
    with tempfile.TemporaryDirectory(prefix="unit-") as folder, _own_groups() as groups:
        runtime = Path(folder)
        runtime.chmod(0o755)
        units = runtime / "config" / "systemd" / "user"
        units.mkdir(parents=True)
        (units / name).write_text(text, encoding="utf-8")
        # What each unit needs, and none of the services that the machine has for its users.
        for needed in ("basic", "sysinit", "shutdown"):
            (units / f"{needed}.target").write_text("[Unit]\nDefaultDependencies=no\n", encoding="utf-8")
        environment = [f"XDG_RUNTIME_DIR={runtime}", f"SYSTEMD_UNIT_PATH={units}"]
        manager = [program, "--user", "--log-target=null", f"--unit={name}"]
        command = _in_namespace(
            [*shown, runtime],
            f"OWN='{_words(groups)}'\n{_NAMESPACE}{_MANAGER}",
            ["env", "-i", "PATH=/usr/bin:/bin", *environment, *manager],
            "--pid", "--fork", "--kill-child", "--mount-proc",
        )  # fmt: skip
        with subprocess.Popen(bound(command, signal.SIGKILL)) as process:
            try:
                service = Service(psutil.Process(process.pid), name, runtime)
                yield service
                service.end()
                process.wait(_LIMIT_S)
            finally:
                process.kill()


@contextmanager
def _own_groups() -> Iterator[list[Path]]:
    """New control groups below this process's, in the hierarchies by which systemd follows processes.

    At the end they are gone, with what the manager made of the same name in the other hierarchies.
    """
    top = Path("/sys/fs/cgroup")
    lines = [line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines()]
    second = top if (top / "cgroup.controllers").exists() else top / "unified"
    followed = {"name=systemd": top / "systemd", "": second}
    parents = [followed[name] / path.lstrip("/") for name, path in lines if name in followed]
    name = f"spillover-test-{os.getpid()}"
    groups = [parent / name for parent in parents if parent.is_dir()]
    try:
        for group in groups:
            group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    try:
        yield groups
    finally:
        made = [path for path in top.rglob("*") if path.is_dir() and name in path.parts]
        for path in sorted(made, reverse=True):
            path.rmdir()


def _in_namespace(shown: Sequence[Path], script: str, command: Sequence[str], *others: str) -> list[str]:
    unshare = tool("unshare", "util-linux")
    for program in ("setpriv", "findmnt", "mount"):
        tool(program, "util-linux")
    if subprocess.run([unshare, "--mount", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this user may make no mount namespace (root may)")
    in_sight = [Path(sys.base_prefix), Path(sys.prefix), ROOT, *shown]
    closed = {folder for path in in_sight for folder in _closed_above(path)}
    variables = f"SHOWN='{_words(in_sight)}'\nCLOSED='{_words(sorted(closed))}'\n"
    return [
        unshare, "--mount", "--propagation", "private", *others,
        "sh", "-ec", variables + script, "sh", *command,
    ]  # fmt: skip


def _closed_above(path: Path) -> list[Path]:
    """The topmost folder above `path` that others may not enter, if there is one."""
    above = [folder for folder in path.resolve().parents if not folder.stat().st_mode & 0o001]
    return above[-1:]


def _words(paths: Sequence[Path]) -> str:
    resolved = [str(path.resolve()) for path in paths]
    assert not any(set(one) & set(" '\n") for one in resolved), resolved
    return " ".join(dict.fromkeys(resolved))
