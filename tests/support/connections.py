"""What a process and its children reach: where they connect and send to, and which files they write."""

import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.support.tools import tool

_LIMIT_S = 60.0

# Runs at the start of each interpreter that has this folder on its path. One write a line, since threads and
# processes share the file.
_HOOK = """
import os, sys

log = os.open({log!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

def note(event, arguments):
    if event in {{"socket.connect", "socket.sendto", "socket.sendmsg"}}:
        os.write(log, f"{{event}} {{arguments[-1]!r}}\\n".encode())
    elif event in {{"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"}}:
        os.write(log, f"{{event}} {{arguments[:2]!r}}\\n".encode())

sys.addaudithook(note)
os.write(log, b"hooked\\n")
"""

_CALLS = "connect,sendto,sendmsg,sendmmsg"
_CHANGING = (
    "creat,mkdir,mkdirat,mknod,mknodat,rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,"
    "rmdir,truncate,chmod,fchmodat,chown,fchownat"
)
_FILE_CALLS = f"open,openat,openat2,{_CHANGING}"
_OPENED = re.compile(r'\bopen(?:at2?)?\((?:[^"]*, )?"([^"]*)", [^)]*\b(?:O_WRONLY|O_RDWR|O_CREAT|O_TRUNC)\b')
_CHANGED = re.compile(rf'\b(?:{_CHANGING.replace(",", "|")})\((?:[^"]*, )?"([^"]*)"')
_FAMILY = re.compile(r"\{sa_family=(AF_\w+)(?:, ([^}]*))?\}")
_NUMBERS = re.compile(r'htons\((\d+)\).*?(?:inet_addr\(|inet_pton\(AF_INET6, )"([^"]+)"')
_PATH = re.compile(r'sun_path=@?"([^"]*)"')


@dataclass(frozen=True, slots=True)
class Target:
    """An address that a process wanted: the family without AF_, and `host:port`, a path, or nothing."""

    family: str
    address: str


def hooked(folder: Path) -> dict[str, str]:
    """The environment that makes Python processes write what they connect to into `folder`/audit."""
    hook = folder / "hook"
    hook.mkdir(parents=True)
    (hook / "sitecustomize.py").write_text(_HOOK.format(log=str(folder / "audit")), encoding="utf-8")
    paths = (str(hook), os.environ.get("PYTHONPATH", ""))
    return {"PYTHONPATH": os.pathsep.join(path for path in paths if path)}


def audited(folder: Path) -> list[str]:
    """What the hook noted, each as event and address; empty if no process was hooked at all."""
    lines = (folder / "audit").read_text(encoding="utf-8").splitlines()
    assert "hooked" in lines, "no Python process has run the hook"
    return [line for line in lines if line != "hooked"]


def stracing(log: Path, *, files: bool = False) -> list[str]:
    """What stands before a command whose system calls go to `log`; its process id stays its own.

    `files`: those that open or change files, too.
    """
    # -D: the tracer is the grandchild, so that signals reach the command.
    strace = tool("strace", "strace")
    calls = f"{_CALLS},{_FILE_CALLS}" if files else _CALLS
    return [
        strace,
        "-D",
        "-f",
        "-qq",
        "-s",
        "4096",
        "-e",
        f"trace={calls}",
        "-e",
        "signal=none",
        "-o",
        str(log),
    ]


def wait_for_tracer(log: Path) -> None:
    """Until no process holds the log open: then the tracer has written all."""
    end = time.monotonic() + _LIMIT_S
    while _is_open(log):
        assert time.monotonic() < end, f"the tracer that writes {log} does not end"
        time.sleep(0.01)


def _is_open(path: Path) -> bool:
    """Whether a process of this machine that this one may look at has `path` open."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if any(file.path == str(path) for file in process.open_files()):
                return True
    return False


def changed_files(text: str) -> set[str]:
    """The paths in what strace wrote that somebody wanted to write to, make, rename or remove."""
    return {found[1] for pattern in (_OPENED, _CHANGED) for found in pattern.finditer(text)}


def targets(text: str) -> Iterator[Target]:
    """The addresses in what strace wrote; calls without one, on sockets that are connected, have none.

    An IPv4 address through a socket for both versions (`::ffff:192.0.2.1`) is one of IPv4.
    """
    for found in _FAMILY.finditer(text):
        family, fields = found[1].removeprefix("AF_"), found[2] or ""
        if numbers := _NUMBERS.search(fields):
            host = numbers[2].removeprefix("::ffff:")
            yield Target("INET" if "." in host else family, f"{host}:{numbers[1]}")
        elif path := _PATH.search(fields):
            yield Target(family, path[1])
        else:
            yield Target(family, "")
