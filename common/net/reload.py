"""Values read from files that may change while the process runs: certificates, tokens, revocations."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from spillover.common.errors import ConfigError
from spillover.common.files import exposure, read_regular
from spillover.common.log import get_logger

T = TypeVar("T")

_MAX_BYTES = 16 * 1024 * 1024
"""The longest file: a revocation list of 400 000 certificates."""

_LOG_INTERVAL_S = 10.0

_log = get_logger("reload")

Stamp = tuple[tuple[int, int, int] | None, ...]
"""For each file the time of its last change, size and inode; None if it does not exist.

The change is that of content, owner or mode: a file that became readable is another one.
"""


class Reloading(Generic[T]):
    """A value that is reloaded when its files change.

    An unreadable change keeps the old value and is logged, one line in 10 s at most: files that belong
    together are replaced one after the other, and half a change must not stop a running process. `clock`
    gives monotonic seconds.

    Raises:
        ConfigError: the first reading fails.
    """

    def __init__(
        self, paths: Sequence[Path], read: Callable[[], T], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._paths = tuple(paths)
        self._read = read
        self._clock = clock
        self._logged_s = -_LOG_INTERVAL_S
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
                self._complain(error)
            else:
                _log.info("changed file taken over", files=[str(path) for path in self._paths])
        return self._value

    def _complain(self, error: ConfigError) -> None:
        now_s = self._clock()
        if now_s - self._logged_s >= _LOG_INTERVAL_S:
            self._logged_s = now_s
            _log.error("changed file not taken over; the old content stays", error=str(error))

    def _stamp(self) -> Stamp:
        return tuple(_stamp_of(path) for path in self._paths)


def read_file(path: Path, key: str) -> bytes:
    """The content of the regular file that configuration key `key` names. Raises ConfigError naming both."""
    try:
        return read_regular(path, _MAX_BYTES)
    except OSError as error:
        raise ConfigError(f"{key}: cannot read {path}: {error.strerror or error}") from error


def read_secret(path: Path, key: str) -> str:
    """The secret in the file that configuration key `key` names, without the white space around it.

    Raises:
        ConfigError: the file cannot be read, or holds no text.
    """
    try:
        secret = read_file(path, key).decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{key}: {path} holds no text") from error
    if not secret:
        raise ConfigError(f"{key}: {path} is empty")
    return secret


def secret_of(value: str, file: str, key: str) -> str:
    """`value`, else the secret in `file`, which `key` names; empty without either. Raises ConfigError."""
    return value or (read_secret(Path(file).expanduser(), key) if file else "")


def warn_if_exposed(key: str, path: Path) -> None:
    """Log when more users than meant can read or change the secret that configuration key `key` names."""
    if why := exposure(path):
        _log.warning("secret is not kept", key=key, file=str(path), because=why)


def _stamp_of(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ctime_ns, status.st_size, status.st_ino
