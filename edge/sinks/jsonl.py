"""JSON lines, appended to a file or written to standard output."""

import sys
from pathlib import Path
from typing import BinaryIO

from common.errors import ConfigError
from common.types import Result
from edge.sinks.record import Encode

STDOUT = "-"


class JsonLinesSink:
    """One record a line (see `edge.sinks.record`).

    Raises:
        ConfigError: the file cannot be opened for appending.
    """

    def __init__(self, path: str, encode: Encode) -> None:
        self._encode = encode
        self._file = _open(path)

    def write(self, result: Result) -> None:
        """Write one line into the buffer."""
        self._file.write(self._encode(result) + b"\n")

    def flush(self) -> None:
        """Hand the buffer to the system."""
        self._file.flush()

    def close(self) -> None:
        """Flush and close; standard output itself stays open."""
        self._file.close()


def _open(path: str) -> BinaryIO:
    try:
        if path == STDOUT:
            return open(sys.stdout.fileno(), "wb", closefd=False)
        return Path(path).expanduser().open("ab")
    except OSError as error:
        raise ConfigError(f"sinks: path {path!r} cannot be opened: {error}") from error
