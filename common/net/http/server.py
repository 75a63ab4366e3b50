"""An HTTP server: its pages by path, for whom they are, from its start to its end."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from spillover.common.errors import ConfigError, ForbiddenError, UnauthenticatedError
from spillover.common.log import get_logger
from spillover.common.net.addresses import UNIX, with_port
from spillover.common.net.http.handler import PEER, PROVEN
from spillover.common.net.http.listener import POLL_S, Listener

Admit = Callable[[str, bytes | None], None]
"""Checks one caller: the Authorization header, and the client's verified certificate (DER) or None.

Raises UnauthenticatedError or ForbiddenError.
"""

_TEXT = ("Content-Type", "text/plain; charset=utf-8")


class HttpServer:
    """Serves pages (path to WSGI application) at `address` from `start` to `stop`; other paths are 404.

    A path that ends in `/` stands for all below it, `/` itself excepted.

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
            self._server = Listener(address, context, clock)
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
                self._stopping.wait(POLL_S)
            self._server.cut_overdue()


def _routed(routes: Mapping[str, WSGIApplication]) -> WSGIApplication:
    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        folders = (name for name in routes if name != "/" and name.endswith("/"))
        folder = next((name for name in folders if path.startswith(name)), path)
        if app := routes.get(path) or routes.get(folder):
            return app(environ, start_response)
        start_response("404 Not Found", [_TEXT])
        return [f"not found; there is {', '.join(routes)}\n".encode()]

    return answer


def _guarded(app: WSGIApplication, admit: Admit) -> WSGIApplication:
    """`app` behind `admit`: callers that it rejects get 401 or 403."""

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            admit(environ.get("HTTP_AUTHORIZATION", ""), environ[PEER])
        except UnauthenticatedError as error:
            start_response("401 Unauthorized", [_TEXT, ("WWW-Authenticate", "Bearer")])
            return [f"{error}\n".encode()]
        except ForbiddenError as error:
            start_response("403 Forbidden", [_TEXT])
            return [f"{error}\n".encode()]
        environ[PROVEN]()
        return app(environ, start_response)

    return answer
