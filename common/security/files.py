"""Files that only their owner may read, written atomically."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spillover.common.errors import ConfigError
from spillover.common.files import PRIVATE, PUBLIC, write_atomic


def write_private(path: Path, data: bytes) -> None:
    """Write a secret atomically, with mode 0600 from its first byte on.

    Raises:
        ConfigError: it cannot be written.
    """
    _write(path, data, PRIVATE)


def write_public(path: Path, data: bytes) -> None:
    """Write a file that all users may read, atomically. Raises ConfigError."""
    _write(path, data, PUBLIC)


def make_folder(path: Path) -> None:
    """Make a folder that only its owner may enter, unless it exists. Raises ConfigError."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigError(f"cannot make folder {path}: {error.strerror}") from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock the folder against other processes, so that two revocations do not overwrite each other.

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
    try:
        write_atomic(path, data, mode=mode)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}") from error
