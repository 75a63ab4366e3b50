"""Files that only their owner may read, replaced whole or not at all."""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spillover.common.errors import ConfigError

_PRIVATE, _PUBLIC = 0o600, 0o644


def write_private(path: Path, data: bytes) -> None:
    """Write a secret: mode 0600 from its first byte on. Readers see the old file or the new, never a part.

    Raises:
        ConfigError: it cannot be written.
    """
    _write(path, data, _PRIVATE)


def write_public(path: Path, data: bytes) -> None:
    """Write what everybody may read, as atomically. Raises ConfigError."""
    _write(path, data, _PUBLIC)


def make_folder(path: Path) -> None:
    """Make a folder that its owner alone may enter, if it is not there. Raises ConfigError."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigError(f"cannot make folder {path}: {error.strerror}") from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from changing the folder meanwhile: two that revoke must not undo each other.

    Raises:
        ConfigError: there is no such folder.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise ConfigError(f"cannot use folder {folder}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write(path: Path, data: bytes, mode: int) -> None:
    partial = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        _write_durably(partial, data, mode)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise ConfigError(f"cannot write {path}: {error.strerror or error}") from error


def _write_durably(path: Path, data: bytes, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
