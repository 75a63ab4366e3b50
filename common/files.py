"""Files: the one atomic write, reads that always end, and who else could read or change a secret."""

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

PRIVATE, PUBLIC = 0o600, 0o644
"""Modes of files that only their owner may read, and of files that everybody may read."""


def write_atomic(path: Path, data: bytes, *, mode: int = PUBLIC) -> None:
    """Replace `path` by `data`; readers see the old file or the new one, never a part.

    The file has `mode` (less the umask) from its first byte on. File and folder are synced, so that the new
    content survives a power cut (rename(2), fsync(2)).

    Raises:
        OSError: it cannot be written; the old file is as it was, and nothing is left beside it.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


@contextmanager
def open_regular(path: Path, max_bytes: int) -> Iterator[BufferedReader]:
    """Open a file whose reading ends: a regular one of at most `max_bytes`.

    A pipe, a socket or a device would be waited for, or never end. Without O_NONBLOCK its opening hangs.

    Raises:
        OSError: it cannot be opened, is of another kind, or is longer.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    status = os.fstat(descriptor)
    why = ""
    if not stat.S_ISREG(status.st_mode):
        why = "is not a regular file"
    elif status.st_size > max_bytes:
        why = f"has {status.st_size} bytes, more than {max_bytes}"
    if why:
        os.close(descriptor)
        raise OSError(errno.EINVAL, why, str(path))
    with os.fdopen(descriptor, "rb") as file:
        yield file


def read_regular(path: Path, max_bytes: int) -> bytes:
    """The bytes of a file, under the conditions of `open_regular`. Raises OSError."""
    with open_regular(path, max_bytes) as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:  # it grew, or it is one of those of /proc, whose size is 0
        raise OSError(errno.EINVAL, f"has more than {max_bytes} bytes", str(path))
    return data


def exposure(path: Path) -> str:
    """Who beside owner and group can use a secret, as a sentence's end; empty when nobody can.

    A group that may read is no fault: that is how a service without rights gets its key.
    """
    try:
        mode = path.stat().st_mode
    except OSError:
        return ""  # whoever reads it says so
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        who = "all users" if mode & stat.S_IWOTH else "its group"
        return f"can be changed by {who} (mode {stat.S_IMODE(mode):04o}): chmod go-w"
    if mode & stat.S_IROTH:
        return f"can be read by all users (mode {stat.S_IMODE(mode):04o}): chmod o-r"
    return ""


def sync_folder(folder: Path) -> None:
    """Make the entries of a folder survive a power cut. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
