"""The audit trail: who changed what, and who was refused.

The server writes it to its log, as component `audit` and whatever the log's level; the commands that make and
revoke credentials write it to `audit.jsonl` beside what they change. What others wrote is cut and escaped.
"""

import os
import pwd
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from spillover.common.errors import Cause, ConfigError
from spillover.common.files import PRIVATE
from spillover.common.log import get_logger, printable

TRAIL = "audit.jsonl"
_MAX_TEXT = 200
_WINDOW_S = 60.0
_LINES_PER_WINDOW = 20

About = str | int | float


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does something: a caller's proven name, its role, its address. Without a role it is no caller."""

    name: str
    role: str = ""
    peer: str = ""


NOBODY = Actor("")
"""A caller who has proven nothing, at no known address."""
START = Actor("start")
"""The server itself, as it starts."""
SIGHUP = Actor("SIGHUP")
"""Whoever may send signals to the server."""


def audit(action: str, by: Actor, **about: About) -> None:
    """Write one line of the server's audit trail. The keys `by`, `role` and `peer` are taken."""
    who = {"by": by.name, "role": by.role, "peer": by.peer}
    get_logger("audit", always=True).info(action, **_clean({**who, **about}))


def audit_command(folder: Path, action: str, **about: About) -> None:
    """Append what the user of this process has done to `folder`/audit.jsonl, which is only ever appended to.

    Raises:
        ConfigError: it cannot be written; what was done is done.
    """
    line = {"time": datetime.now(UTC).isoformat(timespec="seconds"), **_user(), "action": action, **about}
    path = folder / TRAIL
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, PRIVATE)
        try:
            os.write(descriptor, msgspec.json.encode(_clean(line)) + b"\n")  # one write: lines do not mix
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ConfigError(f"{action} is done, and {path} cannot be written: {error.strerror}") from error


@dataclass(slots=True)
class _Window:
    """The refusals of one cause within a minute."""

    ends_s: float = -float("inf")
    lines: int = 0
    summed: int = 0
    last: tuple[Actor, str, str] = field(default=(NOBODY, "", ""))


class Refusals:
    """Refusals by identity or role: 20 lines a minute and cause, and one that counts the others.

    Strangers must not fill the disk. Belongs to the event loop. `later(delay_s, work)` has it do work later,
    `clock` gives monotonic seconds.
    """

    def __init__(
        self,
        later: Callable[[float, Callable[[], None]], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._later = later
        self._clock = clock
        self._windows: dict[Cause, _Window] = {}

    def add(self, cause: Cause, by: Actor, method: str, because: str) -> None:
        """Note one refusal."""
        now_s = self._clock()
        window = self._windows.get(cause)
        if window is None or now_s >= window.ends_s:
            self._write_sum(cause)
            window = self._windows[cause] = _Window(now_s + _WINDOW_S)
        if window.lines < _LINES_PER_WINDOW:
            window.lines += 1
            _write(cause, by, method, because, count=1)
            return
        if not window.summed:
            self._later(window.ends_s - now_s, lambda: self._write_sum(cause))
        window.summed += 1
        window.last = (by, method, because)

    def close(self) -> None:
        """Write what is not written yet."""
        for cause in self._windows:
            self._write_sum(cause)

    def _write_sum(self, cause: Cause) -> None:
        window = self._windows.get(cause)
        if window and window.summed:
            _write(cause, *window.last, count=window.summed)
            window.summed = 0


def _write(cause: Cause, by: Actor, method: str, because: str, count: int) -> None:
    audit("refused", by, cause=cause.value, method=method, because=because, count=count)


def _clean(about: Mapping[str, About]) -> dict[str, About]:
    return {
        key: printable(value, _MAX_TEXT) if isinstance(value, str) else value for key, value in about.items()
    }


def _user() -> dict[str, About]:
    """Who runs this process: by its user id, as the environment can say anything."""
    uid = os.getuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    behind = os.environ.get("SUDO_USER")
    user: dict[str, About] = {"user": name}
    return user | {"sudo_user": behind} if behind else user
