"""Writes JSON lines to the end of a file or to standard output."""

import errno
import os
import stat
import sys
from contextlib import suppress
from io import FileIO
from pathlib import Path

from spillover.common.errors import ConfigError
from spillover.common.files import FileLock, lock_file
from spillover.common.mounts import demand_folder, may_pass
from spillover.common.types import Result
from spillover.edge.results.delivery import Event
from spillover.edge.sinks.record import Encode, encode_event

STDOUT = "-"
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EAGAIN})
"""The file is as good as before: what was not taken can be written to it later."""


class JsonLinesSink:
    """One record a line (see `edge.sinks.record`), events among them.

    With `rotate_bytes` the file is renamed to `path.1` when it has reached that size, `path.1` to `path.2`,
    and so on up to `rotate_keep`; the oldest goes. Only regular files are rotated, and used by one daemon at
    a time. Where the file's disk is away, at the start or later, every flush tries to open it again.

    Raises:
        InUseError: another daemon writes to the file.
        ConfigError: the path can never be a file that is appended to.
    """

    refused = ()
    """What a disk does not take now it may take later."""

    def __init__(
        self, path: str, encode: Encode, *, events: bool = True, rotate_bytes: int = 0, rotate_keep: int = 1
    ) -> None:
        self._encode = encode
        self._events = events
        self._path = None if path == STDOUT else Path(path).expanduser()
        self._rotate_bytes = rotate_bytes
        self._rotate_keep = rotate_keep
        self._waiting = bytearray()
        """Whole lines; of the first one, `_begun` bytes are in the file already."""
        self._begun = 0
        self._size = 0
        self._rotates = False
        self._file: FileIO | None = None
        self._lock: FileLock | None = None
        self._begun_in: os.stat_result | None = None
        try:
            self._open()
        except OSError as error:
            if not may_pass(error):
                raise ConfigError(f"sinks: path {path!r} cannot be opened: {error}") from error

    def start(self) -> None:
        """A file needs no background thread."""

    def notice(self, event: Event) -> None:
        """Events are taken in their turn."""

    def wait_for_room(self, timeout_s: float) -> bool:
        """There always is."""
        del timeout_s
        return True

    def write(self, result: Result) -> None:
        """Add a result to the lines that `flush` writes."""
        self._waiting += self._encode(result) + b"\n"

    def tell(self, event: Event) -> None:
        """Add an event to the lines that `flush` writes, if the sink is configured for events."""
        if self._events:
            self._waiting += encode_event(event) + b"\n"

    def flush(self) -> None:
        """Write the waiting lines; a line of which a full disk took a part is completed next time."""
        if self._file is None:
            self._open()
        while self._waiting:
            if end := self._fitting():
                self._write(end)
            else:
                self._rotate()

    def reopen(self) -> None:
        """Write what waits to the file that is open, then go on in the one that is at the path now.

        What the old file cannot take goes to the new one, whole lines: if the old one was deleted, it is what
        fills the disk, and to hold it would keep it there. Raises OSError; the old file is still in use then.
        """
        with suppress(OSError):
            self.flush()
        if self._path is not None:
            self._open()

    def close(self) -> None:
        """Close; standard output itself stays open."""
        self._let_go()
        if self._lock is not None:
            self._lock.close()

    def _write(self, end: int) -> None:
        file = self._file
        assert file is not None  # noqa: S101 - `flush` has opened it
        try:
            with memoryview(self._waiting) as waiting:
                written = file.write(waiting[self._begun : end])
        except OSError as error:
            if self._path is not None and error.errno not in _NO_ROOM:
                self._let_go()  # its disk is gone; another may come to the same place
            raise
        if written is None:
            raise BlockingIOError("standard output takes nothing now")
        self._size += written
        taken = self._begun + written
        whole = self._waiting.rfind(b"\n", 0, taken) + 1
        del self._waiting[:whole]
        self._begun = taken - whole

    def _fitting(self) -> int:
        """How many waiting bytes, in whole lines, belong into this file; 0: it has to be rotated first."""
        left = self._rotate_bytes - self._size if self._rotates else len(self._waiting)
        if len(self._waiting) - self._begun <= left:
            return len(self._waiting)
        fitting = self._waiting.rfind(b"\n", 0, max(0, self._begun + left)) + 1
        if fitting or (self._size and not self._begun):
            return fitting
        return self._waiting.find(b"\n") + 1  # a line that is begun, or longer than a whole file may be

    def _rotate(self) -> None:
        """Rename and begin anew. A disk that refuses is met again at the next flush."""
        path, file = self._path, self._file
        assert path is not None  # noqa: S101 - standard output is not rotated
        assert file is not None  # noqa: S101 - `flush` has opened it
        if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            for number in range(self._rotate_keep, 0, -1):
                older = path if number == 1 else path.with_name(f"{path.name}.{number - 1}")
                if older.exists():
                    older.replace(path.with_name(f"{path.name}.{number}"))
        self._open()

    def _open(self) -> None:
        """Take what is at the path now in place of what is open. Raises OSError, InUseError."""
        if self._path is None:
            fresh = _standard_output()
        else:
            if not self._path.exists() or self._path.is_file():
                demand_folder(self._path)
                if self._rotate_bytes and not _may_rename_in(self._path.resolve().parent):
                    raise PermissionError(errno.EACCES, "no right to rotate files in this folder (rotate_mb)")
                self._be_alone(self._path)
            fresh = _file(self._path, waits=self._begun_in is None)
        self._let_go()
        status = os.fstat(fresh.fileno())
        self._rotates = bool(self._rotate_bytes) and self._path is not None and stat.S_ISREG(status.st_mode)
        self._size = status.st_size if self._rotates else 0
        is_same = self._begun_in is not None and os.path.samestat(self._begun_in, status)
        if not (is_same and self._begun):
            self._begun = 0
            if self._path is not None and _is_torn(self._path, status):
                self._waiting[:0] = b"\n"
        self._file, self._begun_in = fresh, status

    def _be_alone(self, path: Path) -> None:
        if self._lock is None:
            self._lock = lock_file(path, "sinks")
        else:
            self._lock.renew()

    def _let_go(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()


def _file(path: Path, *, waits: bool) -> FileIO:
    return open(path, "ab", buffering=0, opener=None if waits else _without_waiting)


def _without_waiting(path: str, flags: int) -> int:
    """Open it, but a pipe that nobody reads: the start may wait for a reader, a flush must not."""
    descriptor = os.open(path, flags | os.O_NONBLOCK, 0o666)
    os.set_blocking(descriptor, True)
    return descriptor


def _may_rename_in(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids)


def _standard_output() -> FileIO:
    if sys.stdout is None:  # as Python has it when the descriptor was closed before it began
        raise ConfigError("sinks: standard output is closed; name a file as `path`")
    return open(sys.stdout.fileno(), "wb", buffering=0, closefd=False)


def _is_torn(path: Path, status: os.stat_result) -> bool:
    """Whether a crash left the last line half written, so that the next one would be spoiled too."""
    if not stat.S_ISREG(status.st_mode) or not status.st_size:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"
