"""Files: the one atomic write, reads that always end, locks, and who else could read or change a secret."""

import errno
import fcntl
import os
import secrets
import stat
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path

from spillover.common.errors import InUseError

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


class FileLock:
    """Held until `close`, until nobody has this object any more, or until the process ends."""

    def __init__(self, path: Path, key: str) -> None:
        self._path = path
        self._key = key
        self._hold(_take_lock(lock_beside(path), path, key))

    def _hold(self, file: int) -> None:
        self._file = file
        self._let_go = weakref.finalize(self, os.close, file)

    def renew(self) -> None:
        """Lock anew what is at the path now, if its disk came back as another or its lock was removed.

        Raises:
            InUseError: another process was quicker; nothing is held any more.
            OSError: there is nothing to lock now; what was held still is.
        """
        beside = lock_beside(self._path)
        with suppress(FileNotFoundError):
            if self._let_go.alive and os.path.samestat(os.fstat(self._file), beside.stat()):
                return
        fresh = _take_lock(beside, self._path, self._key)
        self.close()
        self._hold(fresh)

    def close(self) -> None:
        """Let others have it. The lock's file stays: to remove it would let two hold it."""
        self._let_go()


def lock_file(path: Path, key: str) -> FileLock:
    """Be the only one who uses `path`, which need not exist; `key` names it in the configuration.

    The lock is that of flock(2) on `.NAME.lock` beside the file that `path` leads to, because the file itself
    may be replaced or rotated, and SQLite loses its own locks when somebody closes the database. A file
    system without such locks gives none: then nobody is kept out.

    Raises:
        InUseError: another holds it; the text names the path and, where known, the process.
        OSError: there is no such folder, or nothing can be written in it.
    """
    return FileLock(path, key)


def real_path(path: Path) -> Path:
    """The file or folder that `path` leads to, which need not be there. Raises OSError."""
    try:
        found = path.expanduser().resolve()
    except RuntimeError as error:  # a loop of links before Python 3.13, or the home of nobody
        raise OSError(errno.ELOOP, str(error), str(path)) from error
    if any(part.is_symlink() for part in (found, *found.parents)):  # a loop, from Python 3.13 on
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    return found


def lock_beside(path: Path) -> Path:
    """The file whose lock `lock_file` holds for `path`. Raises OSError."""
    target = real_path(path)
    return target.with_name(f".{target.name}.lock")


_NO_LOCKS = frozenset({errno.EBADF, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP})
"""What flock(2) says where the file system has no locks, or NFS none for a file that is open to read."""


def _take_lock(beside: Path, path: Path, key: str) -> int:
    """The descriptor that holds the lock. No child inherits it: Python's descriptors close on exec."""
    file = _open_lock(beside, path)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with suppress(OSError):  # no room, or no right to write, for the number, which is for people alone
            os.ftruncate(file, 0)
            os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
    except BlockingIOError as error:
        holder = os.pread(file, 32, 0).decode(errors="replace").strip()
        os.close(file)
        by = f"process {holder}" if holder.isdigit() else "another process"
        raise InUseError(f"{key}: {path} is in use by {by}; each daemon needs one of its own") from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            os.close(file)
            raise
    return file


def set_aside(path: Path, *more: str) -> Path:
    """Rename a file that cannot be used, so that another can take its place; what was set aside before goes.

    So there is never more than one. `more` are endings of files that belong to it. Gives the new name.
    Raises OSError.
    """
    aside = aside_of(path)
    path.replace(aside)
    for ending in more:
        belongs, moved = (one.with_name(one.name + ending) for one in (path, aside))
        moved.unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            belongs.replace(moved)
    return aside


def aside_of(path: Path) -> Path:
    """Where `set_aside` puts a file."""
    return path.with_name(f"{path.name}.set-aside")


def _open_lock(beside: Path, path: Path) -> int:
    """The lock's file; where this user can make none, another user's, or the file itself, to read."""
    try:
        return os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PUBLIC)
    except PermissionError:
        for other in (beside, real_path(path)):
            with suppress(FileNotFoundError, PermissionError):
                return os.open(other, os.O_RDONLY | os.O_CLOEXEC)
        raise


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
