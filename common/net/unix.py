"""Unix sockets of servers: they appear in one step, and none is taken from a server that answers."""

import errno
import os
import secrets
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MODE = 0o660
"""Owner and group may connect."""
_MAX_BYTES = 107
"""The longest path in a socket's address, unix(7)."""
_PROBE_S = 1.0


@contextmanager
def short_name(path: Path) -> Iterator[str]:
    """A name of `path` that fits into a socket's address, for as long as the block lasts.

    A long path is named through a descriptor of its folder. Raises OSError.
    """
    if len(os.fsencode(path)) <= _MAX_BYTES:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def connect(path: Path, timeout_s: float) -> socket.socket:
    """A connection to the server at `path`, of which no call takes longer than `timeout_s`. Raises OSError.

    A server whose queue is full is waited for; with Python's timeout the kernel would refuse at once.
    """
    connection = socket.socket(socket.AF_UNIX)
    try:
        limit = struct.pack("@ll", int(timeout_s), int(timeout_s % 1 * 1e6))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        with short_name(path) as name:
            connection.connect(name)
        connection.settimeout(timeout_s)
    except OSError:
        connection.close()
        raise
    return connection


def is_served(path: Path) -> bool:
    """Whether a server answers at `path`; False where nothing is, or the socket of one that has ended.

    Raises:
        OSError: something else is there, or it cannot be looked at.
    """
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise OSError(errno.EEXIST, "exists and is no socket", str(path))
        connect(path, _PROBE_S).close()
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    except BlockingIOError:
        pass  # there is one, which has no time
    return True


class SocketFile:
    """The file of a listening socket. Call `bind`, then listen, then `publish`; `remove` at the end.

    It is bound under another name and renamed once it listens: whoever finds it can connect, and one that a
    killed server has left is replaced.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._hidden = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        self._inode: int | None = None

    def bind(self, listener: socket.socket) -> None:
        """Bind `listener`. Raises OSError: the folder cannot be written, or another server answers there."""
        if is_served(self._path):
            raise OSError(errno.EADDRINUSE, "another server answers", str(self._path))
        with short_name(self._hidden) as name:
            listener.bind(name)
        self._hidden.chmod(MODE)
        self._inode = self._hidden.stat().st_ino

    def publish(self) -> None:
        """Give it its name. Raises OSError."""
        self._hidden.replace(self._path)

    def remove(self) -> None:
        """Remove it, unless it has been replaced by another's."""
        for path in (self._hidden, self._path):
            with suppress(OSError):  # it is not there
                if path.lstat().st_ino == self._inode:
                    path.unlink()
