"""Values read from files that may change while the process runs: certificates, tokens, revocations."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from spillover.common.errors import ConfigError
from spillover.common.log import get_logger

T = TypeVar("T")

_log = get_logger("reload")

Stamp = tuple[tuple[int, int, int] | None, ...]
"""For each file the time of its last change, size and inode; None if it does not exist.

The change is that of content, owner or mode: a file that became readable is another one.
"""


class Reloading(Generic[T]):
    """A value that is reloaded when its files change.

    An unreadable change keeps the old value and is logged once: files that belong together are replaced one
    after the other, and half a change must not stop a running process.

    Raises:
        ConfigError: the first reading fails.
    """

    def __init__(self, paths: Sequence[Path], read: Callable[[], T]) -> None:
        self._paths = tuple(paths)
        self._read = read
        self._seen = self._stamp()
        self._value = read()

    def get(self) -> T:
        """The current value; costs one `stat` per file, so it may be read on every call."""
        if (stamp := self._stamp()) != self._seen:
            # Taken before reading, so that a later change is seen next time.
            self._seen = stamp
            try:
                self._value = self._read()
            except ConfigError as error:
                _log.error("changed file not taken over; the old content stays", error=str(error))
            else:
                _log.info("changed file taken over", files=[str(path) for path in self._paths])
        return self._value

    def _stamp(self) -> Stamp:
        return tuple(_stamp_of(path) for path in self._paths)


def read_file(path: Path, key: str) -> bytes:
    """The content of the file that configuration key `key` names. Raises ConfigError naming both."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{key}: cannot read {path}: {error.strerror or error}") from error


def _stamp_of(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ctime_ns, status.st_size, status.st_ino
