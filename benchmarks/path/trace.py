"""Which functions of a folder run, on which thread, in which order: `sys.setprofile` in every thread."""

import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType


@dataclass(frozen=True, slots=True)
class Visit:
    """One call of a function: its file (relative to the traced folder), its name, the calling thread."""

    file: str
    function: str
    thread: str


class Tracer:
    """Records calls of functions below `folder`, from `start` to `stop`, in threads begun after `install`.

    A list's `append` is atomic, so no lock is held in the traced threads.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._names: dict[str, str | None] = {}
        self._recording = False
        self.visits: list[Visit] = []

    def install(self) -> None:
        """Profile this thread and all that are started from now on."""
        threading.setprofile(self._profile)
        sys.setprofile(self._profile)

    def uninstall(self) -> None:
        """Profile threads no more that are started from now on, nor this one."""
        threading.setprofile(None)
        sys.setprofile(None)

    def start(self) -> None:
        """Record from now on."""
        self._recording = True

    def stop(self) -> None:
        """Record no more."""
        self._recording = False

    def _profile(self, frame: FrameType, event: str, _: object) -> None:
        if event != "call" or not self._recording:
            return
        code = frame.f_code
        if (file := self._relative(code.co_filename)) is not None:
            self.visits.append(Visit(file, code.co_name, threading.current_thread().name))

    def _relative(self, name: str) -> str | None:
        if name not in self._names:
            path = Path(name).resolve()
            inside = path.is_relative_to(self._folder)
            self._names[name] = str(path.relative_to(self._folder)) if inside else None
        return self._names[name]


@dataclass(frozen=True, slots=True)
class Route:
    """The files of some visits in the order of their first entry, and how often one is entered again."""

    files: tuple[str, ...]
    openings: int
    """Changes from one file to another, each thread on its own."""
    returns: int
    """Openings of a file that the same thread had left before."""


def route_of(visits: list[Visit]) -> Route:
    """The route of these visits."""
    files: dict[str, None] = {}
    openings = returns = 0
    here: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    for visit in visits:
        files.setdefault(visit.file)
        if here.get(visit.thread) == visit.file:
            continue
        here[visit.thread] = visit.file
        openings += 1
        returns += (visit.thread, visit.file) in seen
        seen.add((visit.thread, visit.file))
    return Route(tuple(files), openings, returns)


def split_at(visits: list[Visit], file: str, function: str) -> Iterator[list[Visit]]:
    """Runs of visits that each begin at a call of `function` in `file`; skips what comes before the first."""
    current: list[Visit] | None = None
    for visit in visits:
        if (visit.file, visit.function) == (file, function):
            if current:
                yield current
            current = []
        if current is not None:
            current.append(visit)
    if current:
        yield current
