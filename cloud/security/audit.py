"""The audit trail: who changed what, and who was refused.

The server writes it to its log, as component `audit` and whatever the log's level.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from spillover.common.errors import Cause
from spillover.common.log import get_logger
from spillover.common.security.trail import About, clean

_WINDOW_S = 60.0
_LINES_PER_WINDOW = 20


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
    get_logger("audit", always=True).info(action, **clean({**who, **about}))


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
