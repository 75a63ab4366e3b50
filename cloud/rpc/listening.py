"""The listening side of the server: its port or Unix socket, and the limits that gRPC keeps there."""

import os
import socket
import stat
from pathlib import Path

import grpc.aio

from spillover.cloud.config import LimitsConfig
from spillover.cloud.serving.room import WINDOW_BYTES, Room
from spillover.common.errors import ConfigError
from spillover.common.net.addresses import UNIX, with_port
from spillover.common.security.files import locked

_NOT_OTHERS = 0o117
_PROBE_S = 1.0
_MAX_METADATA_BYTES = 8192
"""Headers of one call. A soft and a hard limit that differ would refuse what is between them by chance."""


def bind(server: grpc.aio.Server, listen: str, credentials: grpc.ServerCredentials | None) -> str:
    """Bind `listen` for `server`, and return the bound address.

    A Unix socket has mode 0660, and is never taken from a server that answers. gRPC removes it at the stop.

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


def channel_options(limits: LimitsConfig, room: Room, connections: int) -> list[tuple[str, int]]:
    """Options of a server that accepts so many connections (names: grpc_types.h of gRPC core).

    Clients may ping without a call in flight.
    """
    return [
        ("grpc.max_receive_message_length", limits.max_message_bytes),
        ("grpc.max_send_message_length", limits.max_message_bytes),
        ("grpc.max_allowed_incoming_connections", connections),
        ("grpc.max_concurrent_streams", limits.max_streams),
        # Counts calls that the client has the answer of, or has left, while Python cleans up behind them: a
        # client that keeps to `max_streams` would be refused. Who opens calls and leaves them again and again
        # is closed by the keeper of connections.
        ("grpc.http.overload_protection", 0),
        ("grpc.server_handshake_timeout_ms", _ms(limits.handshake_timeout_s)),
        # Until a client has acknowledged the server's SETTINGS, gRPC takes up to 16 MB of headers from it.
        ("grpc.http2.settings_timeout", _ms(limits.handshake_timeout_s)),
        ("grpc.max_metadata_size", _MAX_METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", _MAX_METADATA_BYTES),
        ("grpc.max_connection_age_ms", _ms(limits.max_connection_age_s)),
        ("grpc.max_connection_age_grace_ms", _ms(limits.max_connection_age_grace_s)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", _ms(limits.min_ping_interval_s)),
        # The server's own pings find peers that vanished without a word, and free what they held.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        # Without this a second server on the same port would silently take half of the connections.
        ("grpc.so_reuseport", 0),
        # What comes of a message before it is asked for; the probe would let it grow to megabytes.
        ("grpc.http2.lookahead_bytes", WINDOW_BYTES),
        ("grpc.http2.bdp_probe", 0),
        # Calls that the event loop has not taken up yet. Beyond its own 1000 gRPC cancels further calls.
        ("grpc.server.max_pending_requests", room.untaken),
        ("grpc.server.max_pending_requests_hard_limit", room.untaken),
    ]


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
