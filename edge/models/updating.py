"""Runs the child process that updates a model, and fetches for it, since the link is the daemon's alone."""

import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import BinaryIO, Protocol, cast

import msgspec

from spillover.common.errors import NotFoundError, UnavailableError
from spillover.common.log import printable
from spillover.common.processes import bound
from spillover.edge.models.update.pipe import (
    MOST_BYTES,
    Ask,
    Finished,
    Kind,
    Outcome,
    Request,
    piece,
    read_piece,
)
from spillover.edge.runtime.process import write_within

SILENT_S = 120.0
"""So long the child may say nothing: it loads, unpacks, patches, and tries the model."""
_LOOK_S = 0.5
_TOLD_BYTES, _LONGEST_LINE = 2000, 300
_COMMAND = ("-P", "-m", "spillover.edge.models.update")


class Fetching(Protocol):
    """What brings bytes from the server, within their budget.

    Raises:
        UnavailableError: not now.
        NotFoundError: the server has nothing of that name.
    """

    def metadata(self, name: str) -> bytes:
        """Metadata by its name."""
        ...

    def target(self, sha256: str, offset: int) -> Iterator[bytes]:
        """A target from an offset on, in pieces."""
        ...


def run_update(
    request: Request,
    fetching: Fetching,
    stopping: threading.Event,
    clock: Callable[[], float] = time.monotonic,
) -> Finished:
    """Do one update, to its end; a child that says nothing for `SILENT_S` is killed.

    While `stopping` is set nothing is waited for. What was fetched is kept, whatever happens.
    """
    with _Child() as child:
        try:
            child.tell(Kind.REQUEST, msgspec.json.encode(request))
            while True:
                child.wait_for_piece(stopping, clock)
                kind, content = read_piece(child.asks)
                if kind is Kind.FINISHED:
                    return msgspec.json.decode(content, type=Finished)
                _answer(child, msgspec.json.decode(content, type=Ask), fetching, stopping)
        except (UnavailableError, OSError, msgspec.DecodeError) as error:
            return Finished(Outcome.FAILED, child.last_words() or str(error))


class _Child:
    """The process, which is gone at the end."""

    def __init__(self) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed at the end
        self._process = subprocess.Popen(
            bound([sys.executable, *_COMMAND], signal.SIGKILL),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,
            process_group=0,  # Ctrl-C is for the daemon
        )
        assert self._process.stdin is not None  # noqa: S101 - both are pipes
        assert self._process.stdout is not None  # noqa: S101
        self._told = self._process.stdin.fileno()
        os.set_blocking(self._told, False)
        self.asks = cast("BinaryIO", self._process.stdout)

    def __enter__(self) -> "_Child":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for file in (self._process.stdin, self._process.stdout, self._errors):
            if file is not None:
                file.close()

    def tell(self, kind: Kind, content: bytes = b"") -> None:
        """Raises OSError: it has gone, or reads nothing."""
        write_within(self._told, piece(kind, content), SILENT_S)

    def wait_for_piece(self, stopping: threading.Event, clock: Callable[[], float]) -> None:
        """Raises UnavailableError: it says nothing, or the daemon stops."""
        until_s = clock() + SILENT_S
        while not select.select([self.asks], [], [], _LOOK_S)[0]:
            if stopping.is_set():
                raise UnavailableError("stopped")
            if clock() > until_s:
                raise UnavailableError(f"the update has said nothing for {SILENT_S:g} s")

    def last_words(self) -> str:
        """The end of its standard error, where it has gone by itself."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_LOOK_S)
        if self._process.returncode in {None, 0}:
            return ""
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - _TOLD_BYTES))
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        ended = f"the update ended with {self._process.returncode}"
        return f"{ended}: {printable(lines[-1], _LONGEST_LINE)}" if lines else ended


def _answer(child: _Child, ask: Ask, fetching: Fetching, stopping: threading.Event) -> None:
    """Fetch what the child asks for, and pass it on. Raises OSError: the child has gone."""
    try:
        for content in _fetched(ask, fetching, stopping):
            for begin in range(0, len(content), MOST_BYTES):
                child.tell(Kind.DATA, content[begin : begin + MOST_BYTES])
    except UnavailableError as error:
        child.tell(Kind.FAILED, str(error).encode())
    except NotFoundError:
        child.tell(Kind.MISSING)
    else:
        child.tell(Kind.END)


def _fetched(ask: Ask, fetching: Fetching, stopping: threading.Event) -> Iterator[bytes]:
    """The pieces, until the daemon stops. Raises UnavailableError, NotFoundError."""
    wanted = (
        iter([fetching.metadata(ask.metadata)]) if ask.metadata else fetching.target(ask.sha256, ask.offset)
    )
    for content in wanted:
        yield content
        if stopping.is_set():
            raise UnavailableError("stopped")
