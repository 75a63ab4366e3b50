"""A small HTTP server for pages that people and scrapers read: metrics now, status pages later.

It is WSGI over the standard library, one thread per request. The number of connections, a client's silence
and a request's total time are bounded. TLS and roles are arguments, so both sides use the same server.
"""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from socketserver import TCPServer
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from prometheus_client.exposition import ThreadingWSGIServer

from spillover.common.errors import ConfigError, ForbiddenError, UnauthenticatedError
from spillover.common.log import get_logger
from spillover.common.net.addresses import split_host_port, with_port

MAX_CONNECTIONS = 8
"""Requests served at once; further connections are closed."""
SILENCE_LIMIT_S = 10.0
"""Seconds for which a client may send or receive nothing, TLS handshake included."""
REQUEST_LIMIT_S = 30.0
"""Maximum seconds per request in all, so that a client that sends byte by byte does not keep its place."""
_POLL_S = 0.2

Admit = Callable[[str, bytes | None], None]
"""Checks one caller: the Authorization header, and the client's verified certificate (DER) or None.

Raises UnauthenticatedError or ForbiddenError.
"""

_PEER = "spillover.peer_certificate"
_TEXT = ("Content-Type", "text/plain; charset=utf-8")


class HttpServer:
    """Serves `routes` (path to WSGI application) at `address` from `start` to `stop`; other paths are 404.

    `key` names the configuration's key in errors. `context` returns the TLS context of the next connection,
    or None for plain HTTP. `admit` is called before each request. `clock` gives monotonic seconds.

    Raises:
        ConfigError: the address cannot be listened on.
    """

    def __init__(
        self,
        address: str,
        routes: Mapping[str, WSGIApplication],
        *,
        key: str,
        context: Callable[[], ssl.SSLContext | None] = lambda: None,
        admit: Admit | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        try:
            self._server = _Server(split_host_port(address), context, clock)
        except (OSError, OverflowError, ValueError) as error:
            raise ConfigError(f"{key}: cannot listen on {address!r}: {error}") from error
        self._server.set_app(_guarded(_routed(routes), admit) if admit else _routed(routes))
        self.address = with_port(address, self._server.server_port)
        """The bound address, `host:port`."""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)

    def start(self) -> None:
        """Serve on a separate thread."""
        self._thread.start()

    def stop(self, deadline_s: float) -> bool:
        """End by `deadline_s` (monotonic) and close open connections. Tells whether the thread has ended."""
        self._stopping.set()
        with suppress(OSError):  # wakes the thread at once, if the system supports it
            self._server.socket.shutdown(socket.SHUT_RDWR)
        self._server.cut(older_than_s=0.0)
        if self._thread.is_alive():
            self._thread.join(max(0.0, deadline_s - time.monotonic()))
        self._server.server_close()
        if ended := not self._thread.is_alive():
            return ended
        get_logger("http").warning("left behind: the HTTP server does not end", address=self.address)
        return False

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._server.handle_request()
            self._server.cut(older_than_s=REQUEST_LIMIT_S)


def _routed(routes: Mapping[str, WSGIApplication]) -> WSGIApplication:
    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if app := routes.get(environ["PATH_INFO"]):
            return app(environ, start_response)
        start_response("404 Not Found", [_TEXT])
        return [f"not found; there is {', '.join(routes)}\n".encode()]

    return answer


def _guarded(app: WSGIApplication, admit: Admit) -> WSGIApplication:
    """`app` behind `admit`: callers that it rejects get 401 or 403."""

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            admit(environ.get("HTTP_AUTHORIZATION", ""), environ[_PEER])
        except UnauthenticatedError as error:
            start_response("401 Unauthorized", [_TEXT, ("WWW-Authenticate", "Bearer")])
            return [f"{error}\n".encode()]
        except ForbiddenError as error:
            start_response("403 Forbidden", [_TEXT])
            return [f"{error}\n".encode()]
        return app(environ, start_response)

    return answer


class _Handler(WSGIRequestHandler):
    timeout = SILENCE_LIMIT_S

    def get_environ(self) -> WSGIEnvironment:
        """Add the client's certificate."""
        connection = self.connection
        der = connection.getpeercert(binary_form=True) if isinstance(connection, ssl.SSLSocket) else None
        return super().get_environ() | {_PEER: der}

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that is overridden
        """Requests are not logged."""


class _Server(ThreadingWSGIServer):
    """One thread per request, within the limits; `cut` closes connections that take too long."""

    timeout = _POLL_S

    def __init__(
        self,
        address: tuple[str, int],
        context: Callable[[], ssl.SSLContext | None],
        clock: Callable[[], float],
    ) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        self._context = context
        self._clock = clock
        self._lock = threading.Lock()
        self._since_s: dict[socket.socket, float] = {}
        super().__init__(address, _Handler)

    def cut(self, older_than_s: float) -> None:
        """Shut down connections older than `older_than_s` seconds, which ends their threads."""
        limit_s = self._clock() - older_than_s
        with self._lock:
            old = [connection for connection, since_s in self._since_s.items() if since_s <= limit_s]
        for connection in old:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # the client closed it first

    def server_bind(self) -> None:
        """Bind without asking a name server for this host's name, as HTTPServer does; it is not needed."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def get_request(self) -> tuple[Any, Any]:
        """Accept a connection; the thread that serves it does the handshake."""
        connection, address = super().get_request()
        if context := self._context():
            connection = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as inherited
        """Serve the connection if there is a free place; else close it."""
        with self._lock:
            has_place = len(self._since_s) < MAX_CONNECTIONS
            if has_place:
                self._since_s[request] = self._clock()
        if has_place:
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as inherited
        """Serve the connection, then release its place."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                del self._since_s[request]

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as inherited
        """Ignore clients that disconnect or fail the handshake."""
