"""Binds the server's port, or its Unix socket: mode 0660, and never taken from a server that answers."""

import os
import socket
import stat
from pathlib import Path

import grpc.aio

from spillover.common.errors import ConfigError
from spillover.common.net.addresses import UNIX, with_port
from spillover.common.security.files import locked

_NOT_OTHERS = 0o117
_PROBE_S = 1.0


def bind(server: grpc.aio.Server, listen: str, credentials: grpc.ServerCredentials | None) -> str:
    """Bind `listen` for `server`, and return the bound address. gRPC removes a Unix socket when it stops.

    Raises:
        ConfigError: the address cannot be listened on, or another server listens there.
    """
    if not listen.startswith(UNIX):
        return with_port(listen, _add(server, listen, credentials))
    path = Path(listen.removeprefix(UNIX))
    with locked(path.parent):  # two servers that start together must not both find a socket left behind
        _remove_left_behind(path)
        before = os.umask(_NOT_OTHERS)  # a later chmod would leave a moment in which others connect
        try:
            _add(server, listen, credentials)
        finally:
            os.umask(before)
    return listen


def _add(server: grpc.aio.Server, listen: str, credentials: grpc.ServerCredentials | None) -> int:
    try:
        return (
            server.add_secure_port(listen, credentials) if credentials else server.add_insecure_port(listen)
        )
    except RuntimeError as error:
        raise ConfigError(f"listen: cannot listen on {listen}: {error}") from error


def _remove_left_behind(path: Path) -> None:
    """Remove the socket of a server that has ended without removing it.

    gRPC removes any socket that is in its way, that of a server which answers as well.
    """
    if check_socket_file(path):
        raise ConfigError(f"listen: another server listens on {path}")
    path.unlink(missing_ok=True)


def check_socket_file(path: Path) -> bool:
    """Whether a server answers at the socket `path`.

    Raises:
        ConfigError: something else is there, or its folder is not.
    """
    if not path.parent.is_dir():
        raise ConfigError(f"listen: {path.parent} is no folder")
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise ConfigError(f"listen: {path} exists and is no socket")
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(_PROBE_S)
            probe.connect(str(path))
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    except OSError as error:
        raise ConfigError(f"listen: cannot use {path}: {error.strerror or error}") from error
    return True
