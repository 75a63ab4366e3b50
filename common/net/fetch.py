"""One GET of a page that a server of this project serves, over TCP or over a Unix socket."""

import http.client
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from spillover.common.errors import UnavailableError
from spillover.common.net.addresses import UNIX, split_host_port
from spillover.common.net.unix import connect

MAX_BYTES = 4 * 1024 * 1024
"""The longest page that is read."""


def fetch(
    address: str, path: str, limit_s: float, *, token: str = "", context: ssl.SSLContext | None = None
) -> tuple[int, bytes]:
    """Status and body of `path` at `address`: `host:port` or `unix:/path`, within about `limit_s`.

    With `token` it proves who asks; with `context` over TLS.

    Raises:
        UnavailableError: nobody answers there in time, or not in HTTP.
    """
    try:
        connection = _connection(address, limit_s, context)
        try:
            connection.connect()
            with shut_after(connection, limit_s):
                connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
                answer = connection.getresponse()
                body = answer.read(MAX_BYTES + 1)
        finally:
            connection.close()
    except (OSError, ValueError, OverflowError, http.client.HTTPException) as error:
        raise UnavailableError(f"{address}: {error or type(error).__name__}") from error
    if len(body) > MAX_BYTES:
        raise UnavailableError(f"{address}: its page has more than {MAX_BYTES} bytes")
    return answer.status, body


@contextmanager
def shut_after(connection: http.client.HTTPConnection, limit_s: float) -> Iterator[None]:
    """End what waits for `connection` after `limit_s`: a limit on each read bounds none that come by bytes.

    Raises:
        TimeoutError: in place of what the end has led to.
    """
    over = threading.Event()
    line = connection.sock

    def shut() -> None:
        over.set()
        with suppress(OSError):
            line.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(limit_s, shut)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, ValueError, http.client.HTTPException):
        if not over.is_set():
            raise
    finally:
        timer.cancel()
    if over.is_set():  # also where an end in the middle passed for that of a page
        raise TimeoutError("timed out")


def tcp_connection(
    host: str, port: int | None, limit_s: float, context: ssl.SSLContext | None
) -> http.client.HTTPConnection:
    """One that is not yet connected, with `context` over TLS; without `port` to the usual one."""
    if context:
        return http.client.HTTPSConnection(host, port, timeout=limit_s, context=context)
    return http.client.HTTPConnection(host, port, timeout=limit_s)


def _connection(address: str, limit_s: float, context: ssl.SSLContext | None) -> http.client.HTTPConnection:
    if address.startswith(UNIX):
        return _UnixConnection(Path(address.removeprefix(UNIX)), limit_s)
    return tcp_connection(*split_host_port(address), limit_s, context)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, limit_s: float) -> None:
        super().__init__("localhost", timeout=limit_s)
        self._path, self._limit_s = path, limit_s

    def connect(self) -> None:
        """Connect to the socket instead of a host. Raises OSError."""
        self.sock = connect(self._path, self._limit_s)
