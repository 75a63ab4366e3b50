"""The metrics over HTTP, for Prometheus: behind the same certificates, tokens and roles as the calls."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from spillover.cloud.rpc.security import Security
from spillover.common.errors import ConfigError, ForbiddenError, SpilloverError, UnauthenticatedError
from spillover.common.net.addresses import split_host_port, with_port

PEER = "spillover.peer_certificate"
"""Key of the WSGI environment: the client's verified certificate, DER, or None."""
_MAX_REQUESTS = 8
_STATUS: dict[type[SpilloverError], tuple[str, list[tuple[str, str]]]] = {
    UnauthenticatedError: ("401 Unauthorized", [("WWW-Authenticate", "Bearer")]),
    ForbiddenError: ("403 Forbidden", []),
}


@contextmanager
def metrics_endpoint(
    address: str | None, registry: CollectorRegistry, security: Security
) -> Iterator[str | None]:
    """Serve `registry` over HTTP at `address` while inside; gives the bound address, None when switched off.

    Raises:
        ConfigError: the address cannot be bound.
    """
    if address is None:
        yield None
        return
    try:
        server = _Server(split_host_port(address), security.http_context)
    except (OSError, OverflowError) as error:
        raise ConfigError(f"metrics: cannot listen on {address}: {error}") from error
    app = make_wsgi_app(registry)
    server.set_app(_guarded(app, security) if security.guards(address) else app)
    thread = threading.Thread(target=server.serve_forever, name="metrics")
    thread.start()
    try:
        yield with_port(address, server.server_port)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _guarded(app: WSGIApplication, security: Security) -> WSGIApplication:
    """`app` for callers who may see metrics."""

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            security.admit_http(environ.get("HTTP_AUTHORIZATION", ""), environ[PEER])
        except (UnauthenticatedError, ForbiddenError) as error:
            status, headers = _STATUS[type(error)]
            start_response(status, [("Content-Type", "text/plain; charset=utf-8"), *headers])
            return [f"{error}\n".encode()]
        return app(environ, start_response)

    return answer


class _Handler(WSGIRequestHandler):
    timeout = 10.0
    """Seconds that a client may be silent; a handshake counts."""

    def get_environ(self) -> WSGIEnvironment:
        """Add who has shown which certificate."""
        connection = self.connection
        der = connection.getpeercert(binary_form=True) if isinstance(connection, ssl.SSLSocket) else None
        return super().get_environ() | {PEER: der}

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that is overridden
        """Requests are not logged."""


class _Server(ThreadingWSGIServer):
    """One thread a request, but never more than a few: further connections are closed."""

    def __init__(self, address: tuple[str, int], context: Callable[[], ssl.SSLContext | None]) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        self._context = context
        self._places = threading.BoundedSemaphore(_MAX_REQUESTS)
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Bind without asking the name service who we are, which may take long and is of no use here."""
        super(WSGIServer, self).server_bind()
        self.setup_environ()

    def get_request(self) -> tuple[Any, Any]:
        """A connection, its handshake left to the thread that will serve it."""
        connection, address = super().get_request()
        if context := self._context():
            connection = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as inherited
        """Serve where there is a place."""
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as inherited
        """Serve, and give the place back."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as inherited
        """A client that breaks off or fails its handshake is no event."""
