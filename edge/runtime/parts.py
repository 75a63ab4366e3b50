"""Threads that report how they ended, and stopping a daemon's parts in order and within one time limit."""

import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from spillover.common.log import get_logger

_log = get_logger("edge")

_GRACE_S = 0.1
"""What a part may take beyond its deadline to return from `stop` and say itself what hangs."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A thread's body returned or raised `error`; or the daemon was asked to end, and `name` says by what."""

    name: str
    error: Exception | None = None


OnEnd = Callable[[Ended], None]


class Worker:
    """A thread called `name` that runs `body` once and reports its end to `on_end`.

    It is a daemon thread: one that hangs in a driver does not keep the process.
    """

    def __init__(self, name: str, body: Callable[[], None], on_end: OnEnd) -> None:
        self.name = name
        self._body = body
        self._on_end = on_end
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def runs(self) -> bool:
        """Whether the body has begun and not ended."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the thread; call it once."""
        self._thread.start()

    def wait(self, deadline_s: float) -> None:
        """Wait for the end until `deadline_s` (clock of `time.monotonic`)."""
        if self.runs:
            self._thread.join(max(0.0, deadline_s - time.monotonic()))

    def ended_by(self, deadline_s: float) -> bool:
        """Wait likewise; tell whether the end came, and log where the thread hangs if it did not."""
        self.wait(deadline_s)
        if self.runs:
            _log.warning("left behind: it did not end in time", part=self.name, at=_position(self._thread))
        return not self.runs

    def _run(self) -> None:
        try:
            self._body()
        except Exception as error:  # noqa: BLE001 - the main thread raises it again
            self._on_end(Ended(self.name, error))
        else:
            self._on_end(Ended(self.name))


def _nothing() -> None:
    """Starts a part that needs no start."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """What a daemon starts and stops as one.

    `stop` takes a deadline on the clock of `time.monotonic`, returns by then, and tells whether everything
    in the part ended. It must be over when `share` of the time for the whole stop has passed; time that is
    not used is left to the parts that stop after it.
    """

    name: str
    share: float
    stop: Callable[[float], bool]
    start: Callable[[], None] = _nothing


EndedBy = Callable[[Worker, float], bool]


def stop_parts(started: Sequence[Part], limit_s: float, ended_by: EndedBy = Worker.ended_by) -> list[str]:
    """Stop parts in the reverse order of `started` within `limit_s` seconds; names of those that hang.

    Each is stopped from a thread of its own, so that one whose `stop` never returns holds up nothing.
    """
    began_s = time.monotonic()
    return [
        part.name
        for part in reversed(started)
        if not _stops(part, began_s + min(1.0, part.share) * limit_s, ended_by)
    ]


def _stops(part: Part, deadline_s: float, ended_by: EndedBy) -> bool:
    ended: list[bool] = []
    stopper = Worker(part.name, lambda: ended.append(part.stop(deadline_s)), _log_failure)
    stopper.start()
    return ended_by(stopper, deadline_s + _GRACE_S) and ended == [True]


def _log_failure(ended: Ended) -> None:
    if ended.error:
        _log.error("failed to stop", part=ended.name, error=str(ended.error))


def _position(thread: threading.Thread) -> str:
    """Where in our own code the thread is now, as `module:line function`; empty when that is not known."""
    frame = sys._current_frames().get(thread.ident or 0)  # noqa: SLF001 - documented, and the only way
    for found, line in traceback.walk_stack(frame) if frame else ():
        module = str(found.f_globals.get("__name__", ""))
        if module.startswith("spillover."):
            return f"{module}:{line} {found.f_code.co_name}"
    return ""
