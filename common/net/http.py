"""A small HTTP server for pages that scrapers, probes and people read: metrics, status, `/livez`, `/readyz`.

It is WSGI over the standard library, one thread per request, on a port or on a Unix socket. What a client may
hold is bounded in number, time and bytes, and a newcomer takes the place of who has kept silent longest, so
that nobody owns the page. TLS and roles are arguments, so both sides use the same server.
"""

import errno
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from io import BufferedIOBase
from pathlib import Path
from socketserver import TCPServer
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from prometheus_client.exposition import ThreadingWSGIServer

from spillover.common.errors import ConfigError, ForbiddenError, UnauthenticatedError
from spillover.common.log import get_logger
from spillover.common.net.addresses import UNIX, split_host_port, with_port
from spillover.common.net.unix import SocketFile

MAX_CONNECTIONS = 16
"""Connections at once. One more takes the place of the oldest that has not proven who it is."""
MAX_OF_ADDRESS = 8
"""Of those, from one address."""
HEADERS_LIMIT_S = 5.0
"""Seconds until the request must be there in whole, TLS handshake included."""
MAX_HEADER_BYTES = 16 * 1024
"""The longest request, with its headers."""
SILENCE_LIMIT_S = 10.0
"""Seconds for which a client may send or receive nothing."""
REQUEST_LIMIT_S = 30.0
"""Maximum seconds per request in all, so that a client that reads byte by byte does not keep its place."""
MAX_STREAMS = 12
"""Answers without an end at once, beside `MAX_CONNECTIONS`; who has begun one gives way to nobody."""
STREAM_BUFFER_BYTES = 64 * 1024
"""What the kernel keeps of such an answer: a slow client is to see what is new, not what has waited."""
_MAX_THREADS = 2 * MAX_CONNECTIONS + MAX_STREAMS
_POLL_S = 0.2
_RESERVE = 4
"""Descriptors kept for clients that come when the process has no other left."""

Admit = Callable[[str, bytes | None], None]
"""Checks one caller: the Authorization header, and the client's verified certificate (DER) or None.

Raises UnauthenticatedError or ForbiddenError.
"""

Proven = Callable[[], None]
"""Notes that the caller of the running request has proven who it is."""

STREAM = "spillover.stream"
"""Where an application finds a `Stream`."""

Stream = Callable[[], bool]
"""Notes that the answer to the running request has no end; false when there are too many of them.

`REQUEST_LIMIT_S` does not hold for it. Each part of it must be read within `SILENCE_LIMIT_S`.
"""

_PEER, _PROVEN = "spillover.peer_certificate", "spillover.proven"
_TEXT = ("Content-Type", "text/plain; charset=utf-8")


class HttpServer:
    """Serves pages (path to WSGI application) at `address` from `start` to `stop`; other paths are 404.

    `address` is `host:port`, or `unix:` and the path of a socket, all of whose clients count as one address.
    `admit` is called before each request for one of `routes`; `open_routes` are for everybody. `key` names
    the configuration's key in errors. `context` returns the TLS context of the next connection, or None for
    plain HTTP. `clock` gives monotonic seconds.

    Raises:
        ConfigError: the address cannot be listened on.
    """

    def __init__(
        self,
        address: str,
        routes: Mapping[str, WSGIApplication],
        *,
        key: str,
        open_routes: Mapping[str, WSGIApplication] | None = None,
        context: Callable[[], ssl.SSLContext | None] = lambda: None,
        admit: Admit | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        try:
            self._server = _Server(address, context, clock)
        except (OSError, OverflowError, ValueError) as error:
            raise ConfigError(f"{key}: cannot listen on {address!r}: {error}") from error
        guarded = {path: _guarded(app, admit) if admit else app for path, app in routes.items()}
        self._server.set_app(_routed(guarded | dict(open_routes or {})))
        is_unix = address.startswith(UNIX)
        self.address = address if is_unix else with_port(address, self._server.server_port)
        """The bound address: `host:port`, or `unix:` and a path."""
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
        self._server.cut_all()
        if self._thread.is_alive():
            self._thread.join(max(0.0, deadline_s - time.monotonic()))
        self._server.server_close()
        if ended := not self._thread.is_alive():
            return ended
        get_logger("http").warning("left behind: the HTTP server does not end", address=self.address)
        return False

    def _run(self) -> None:
        while not self._stopping.is_set():
            if not self._server.serve_one():
                self._stopping.wait(_POLL_S)
            self._server.cut_overdue()


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
        environ[_PROVEN]()
        return app(environ, start_response)

    return answer


@dataclass(slots=True, eq=False)
class _Connection:
    """One client: since when it is here, whether its request has come, and what is known of it."""

    socket: socket.socket
    address: str
    since_s: float
    asked: bool = False
    proven: bool = False
    streams: bool = False

    def shut(self) -> None:
        """End what its thread waits for; the thread then closes it."""
        with suppress(OSError):  # the client closed it first
            # Not `SSLSocket.shutdown`, which takes the encryption away from under the thread.
            socket.socket.shutdown(self.socket, socket.SHUT_RDWR)


class _Places:
    """Who is connected, and who has to go when another comes. Several threads use it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._open: dict[int, _Connection] = {}
        """By the id of the socket, oldest first."""
        self._threads = 0

    def take(self, request: socket.socket, address: str) -> bool:
        """Give a newcomer a place, that of another if need be; False when there is none."""
        with self._lock:
            victim, has_place = self._victim(address)
            if not has_place or self._threads >= _MAX_THREADS:
                return False
            if victim is not None:
                del self._open[id(victim.socket)]
            self._open[id(request)] = _Connection(request, address, self._clock())
            self._threads += 1
        if victim is not None:
            victim.shut()
        return True

    def leave(self, request: socket.socket) -> None:
        """The thread of `request` ends."""
        with self._lock:
            self._threads -= 1
            self._open.pop(id(request), None)

    def find(self, request: socket.socket) -> _Connection | None:
        """Its connection; None when it has lost its place."""
        with self._lock:
            return self._open.get(id(request))

    def stream(self, request: socket.socket) -> bool:
        """Take its connection out of those that give way to newcomers; False when too many are out."""
        with self._lock:
            connection = self._open.get(id(request))
            streams = sum(one.streams for one in self._open.values())
            if connection is None or streams >= MAX_STREAMS:
                return False
            connection.streams = True
        request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, STREAM_BUFFER_BYTES)
        return True

    def overdue(self) -> list[_Connection]:
        """Connections whose request has not come in time, or whose answer has not left in time."""
        now_s = self._clock()
        return [one for one in self.all() if not one.streams and now_s - one.since_s > _limit_s(one)]

    def all(self) -> list[_Connection]:
        """Every connection that has a place."""
        with self._lock:
            return list(self._open.values())

    def _victim(self, address: str) -> tuple[_Connection | None, bool]:
        """Who makes room for one from `address`, if somebody must; and whether there is room then."""
        counted = [one for one in self._open.values() if not one.streams]
        same = [one for one in counted if one.address == address]
        if len(same) >= MAX_OF_ADDRESS:
            victim = _first_to_go(same)
        elif len(counted) >= MAX_CONNECTIONS:
            victim = _first_to_go(counted)
        else:
            return None, True
        return victim, victim is not None


def _limit_s(connection: _Connection) -> float:
    return REQUEST_LIMIT_S if connection.asked else HEADERS_LIMIT_S


def _first_to_go(connections: Iterable[_Connection]) -> _Connection | None:
    """The oldest that has not even asked, else the oldest that has not proven itself, else nobody."""
    unproven = [one for one in connections if not one.proven]
    return next((one for one in unproven if not one.asked), next(iter(unproven), None))


class _TooLongError(Exception):
    """The request is longer than `MAX_HEADER_BYTES`."""


class _Request:
    """What a handler reads its request from: a file of limited length."""

    def __init__(self, file: BufferedIOBase) -> None:
        self._file = file
        self._left = MAX_HEADER_BYTES

    def readline(self, limit: int = -1) -> bytes:
        """One line. Raises _TooLongError when the request is too long."""
        if limit >= 0 and self._left < limit:
            limit = self._left + 1
        line = self._file.readline(limit)
        self._left -= len(line)
        if self._left < 0:
            raise _TooLongError
        return line

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - all else as it is
        return getattr(self._file, name)


class _Answer:
    """What a handler writes its answer to; a client that does not read it in time has gone."""

    def __init__(self, file: BufferedIOBase) -> None:
        self._file = file

    def write(self, data: bytes) -> int:
        """Send all of `data`. Raises ConnectionAbortedError, which wsgiref takes for the client's end."""
        try:
            return self._file.write(data)
        except TimeoutError as error:
            raise ConnectionAbortedError(str(error)) from error

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - all else as it is
        return getattr(self._file, name)


class _Handler(WSGIRequestHandler):
    timeout = SILENCE_LIMIT_S

    def setup(self) -> None:
        """Bound the length of the request."""
        super().setup()
        self.rfile = _Request(self.rfile)  # type: ignore[assignment]  # as far as it is used
        self.wfile = _Answer(self.wfile)  # type: ignore[assignment]

    def handle(self) -> None:
        """Answer the request, one that is too long too."""
        try:
            super().handle()
        except _TooLongError:
            self.requestline, self.request_version, self.command = "", "", ""
            self.send_error(431, "Request Header Fields Too Large")

    def get_environ(self) -> WSGIEnvironment:
        """Note that the request is here; add the client's certificate, and what applications may note."""
        connection = self.connection
        server: Any = self.server
        place = server.places.find(connection)

        def proven() -> None:
            if place is not None:
                place.proven = True

        if place is not None:
            place.asked = True
        der = connection.getpeercert(binary_form=True) if isinstance(connection, ssl.SSLSocket) else None
        stream = partial(server.places.stream, connection)
        return super().get_environ() | {_PEER: der, _PROVEN: proven, STREAM: stream}

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that is overridden
        """Requests are not logged."""


class _Server(ThreadingWSGIServer):
    """One thread per request, within the limits."""

    def __init__(
        self,
        address: str,
        context: Callable[[], ssl.SSLContext | None],
        clock: Callable[[], float],
    ) -> None:
        self._file = SocketFile(Path(address.removeprefix(UNIX))) if address.startswith(UNIX) else None
        target = ("", 0) if self._file else split_host_port(address)
        if self._file:
            self.address_family = socket.AF_UNIX
            self.request_queue_size = MAX_CONNECTIONS
        elif ":" in target[0]:
            self.address_family = socket.AF_INET6
        self._context = context
        self.places = _Places(clock)
        self._reserve: list[socket.socket] = []
        super().__init__(target, _Handler)
        self._refill_reserve()

    def serve_one(self) -> bool:
        """Wait a moment for a client and serve it; False when the system cannot give it a descriptor now."""
        self._refill_reserve()
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        if not poll.poll(_POLL_S * 1000):
            return True
        try:
            request, address = self._accept()
        except OSError as error:
            return error.errno not in {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EINVAL}
        try:
            self.process_request(request, address)
        except (OSError, RuntimeError):  # it has gone, or there is no thread for it
            self.shutdown_request(request)
        return True

    def cut_overdue(self) -> None:
        """Shut down connections that take too long, which ends their threads."""
        for connection in self.places.overdue():
            connection.shut()

    def cut_all(self) -> None:
        """Shut down every connection."""
        for connection in self.places.all():
            connection.shut()

    def server_close(self) -> None:
        """Let go of the port, or the socket's file, and of the reserve."""
        super().server_close()
        if self._file:
            self._file.remove()
        while self._reserve:
            self._reserve.pop().close()

    def server_bind(self) -> None:
        """Bind without asking a name server for this host's name, as HTTPServer does; it is not needed."""
        if self._file:
            self._file.bind(self.socket)
            self.server_name, self.server_port = "localhost", 0
        else:
            TCPServer.server_bind(self)
            self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def server_activate(self) -> None:
        """Listen; only then a Unix socket gets its name."""
        super().server_activate()
        if self._file:
            self._file.publish()

    def get_request(self) -> tuple[Any, Any]:
        """Accept a connection; the thread that serves it does the handshake."""
        connection, address = super().get_request()
        if self._file:
            address = ("unix", 0)  # clients of a Unix socket have none
        if context := self._context():
            try:
                connection = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
            except OSError:
                connection.close()
                raise
        return connection, address

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as inherited
        """Serve the connection if there is a place for it; else close it."""
        if not self.places.take(request, client_address[0]):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:
            self.places.leave(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as inherited
        """Serve the connection, then release its place."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.places.leave(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as inherited
        """Ignore clients that disconnect or fail the handshake."""

    def _accept(self) -> tuple[Any, Any]:
        """Accept a connection, with a descriptor of the reserve if the process has no other."""
        try:
            return self.get_request()
        except OSError as error:
            if error.errno not in {errno.EMFILE, errno.ENFILE} or not self._reserve:
                raise
            self._reserve.pop().close()
            return self.get_request()

    def _refill_reserve(self) -> None:
        with suppress(OSError):  # none to be had: later
            while len(self._reserve) < _RESERVE:
                self._reserve.append(socket.socket(self.address_family))
