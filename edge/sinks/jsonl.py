"""Writes JSON lines to the end of a file or to standard output."""

import os
import stat
import sys
from io import FileIO
from pathlib import Path

from spillover.common.errors import ConfigError
from spillover.common.types import Result
from spillover.edge.results.delivery import Event
from spillover.edge.sinks.record import Encode, encode_event

STDOUT = "-"


class JsonLinesSink:
    """One record a line (see `edge.sinks.record`), events among them.

    With `rotate_bytes` the file is renamed to `path.1` when it has reached that size, `path.1` to `path.2`,
    and so on up to `rotate_keep`; the oldest goes. Standard output is not rotated.

    Raises:
        ConfigError: the file cannot be opened for appending.
    """

    def __init__(
        self, path: str, encode: Encode, *, events: bool = True, rotate_bytes: int = 0, rotate_keep: int = 1
    ) -> None:
        self._encode = encode
        self._events = events
        self._path = None if path == STDOUT else Path(path).expanduser()
        self._rotate_bytes = rotate_bytes if self._path else 0
        self._rotate_keep = rotate_keep
        self._waiting = bytearray()
        self._written = 0
        """Bytes of the first waiting line that the file has already."""
        self._file = _open(self._path)
        try:
            if self._path and _is_torn(self._path):
                self._waiting += b"\n"
        except OSError as error:
            raise ConfigError(f"sinks: path {path!r} cannot be read: {error}") from error
        self._size = self._file.tell() if self._rotate_bytes else 0

    def start(self) -> None:
        """A file needs no background thread."""

    def write(self, result: Result) -> None:
        """Add a result to the lines that `flush` writes."""
        self._line(self._encode(result))

    def tell(self, event: Event) -> None:
        """Add an event to the lines that `flush` writes, if the sink is configured for events."""
        if self._events:
            self._line(encode_event(event))

    def flush(self) -> None:
        """Write the waiting lines; a line of which a full disk took a part is completed next time."""
        while self._waiting:
            with memoryview(self._waiting) as waiting:
                written = self._file.write(waiting[self._written :])
            if written is None:
                raise BlockingIOError("standard output takes nothing now")
            self._written += written
            whole = self._waiting.rfind(b"\n", 0, self._written) + 1
            del self._waiting[:whole]
            self._written -= whole

    def reopen(self) -> None:
        """Open the file of that name; a line of which the old one took a part is written as a whole.

        A pipe or a device stays as it is. Raises OSError.
        """
        if self._path is None or not stat.S_ISREG(os.fstat(self._file.fileno()).st_mode):
            return
        fresh = self._path.open("ab", buffering=0)
        if _is_torn(self._path):
            self._waiting[:0] = b"\n"
        self._file.close()
        self._file, self._size, self._written = fresh, fresh.tell(), 0

    def close(self) -> None:
        """Close; standard output itself stays open."""
        self._file.close()

    def _line(self, line: bytes) -> None:
        if self._rotate_bytes and self._size + len(line) >= self._rotate_bytes and self._size:
            self._rotate()
        self._waiting += line + b"\n"
        self._size += len(line) + 1

    def _rotate(self) -> None:
        """Rename and begin anew. A disk that refuses is met again at the next line."""
        path = self._path
        assert path is not None  # noqa: S101 - standard output is not rotated
        self.flush()
        for number in range(self._rotate_keep, 0, -1):
            older = path if number == 1 else path.with_name(f"{path.name}.{number - 1}")
            if older.exists():
                older.replace(path.with_name(f"{path.name}.{number}"))
        fresh = _open(path)
        self._file.close()
        self._file, self._size = fresh, 0


def _open(path: Path | None) -> FileIO:
    try:
        if path is not None:
            return path.open("ab", buffering=0)
        if sys.stdout is None:  # as Python has it when the descriptor was closed before it began
            raise ConfigError("sinks: standard output is closed; name a file as `path`")
        return open(sys.stdout.fileno(), "wb", buffering=0, closefd=False)
    except OSError as error:
        raise ConfigError(f"sinks: path {str(path)!r} cannot be opened: {error}") from error


def _is_torn(path: Path) -> bool:
    """Whether a crash left the last line half written, so that the next one would be spoiled too."""
    if not path.is_file() or not path.stat().st_size:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"
