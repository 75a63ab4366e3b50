"""The HTTP server: serves its pages, bounds what a client may hold, and ends when it is told to."""

import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from urllib.error import HTTPError
from urllib.request import urlopen
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest
from prometheus_client import CollectorRegistry, Counter, make_wsgi_app

from spillover.common.errors import ConfigError, ForbiddenError, UnauthenticatedError
from spillover.common.net.http import MAX_CONNECTIONS, REQUEST_LIMIT_S, HttpServer

LIMIT_S = 30.0


class Clock:
    """Monotonic seconds that a test moves."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        """The current second."""
        return self.now_s


def hello(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """A page."""
    del environ
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello\n"]


@contextmanager
def started(**options: object) -> Iterator[HttpServer]:
    """A server with one page, `/hello`, on a port of loopback."""
    server = HttpServer("127.0.0.1:0", {"/hello": hello}, key="page", **options)  # type: ignore[arg-type]
    server.start()
    try:
        yield server
    finally:
        server.stop(time.monotonic() + LIMIT_S)


def status(server: HttpServer, path: str = "/hello") -> int:
    """The status of one request."""
    try:
        with urlopen(f"http://{server.address}{path}", timeout=LIMIT_S) as answer:
            return int(answer.status)
    except HTTPError as error:
        with error:
            return error.code


def connect(server: HttpServer) -> socket.socket:
    """A connection that says nothing."""
    host, _, port = server.address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=LIMIT_S)


def test_a_page_is_served_and_other_paths_are_not_found() -> None:
    """Only the routes exist."""
    with started() as server:
        assert (status(server), status(server, "/other")) == (200, 404)


@pytest.mark.parametrize(
    ("error", "expected"), [(UnauthenticatedError("no proof"), 401), (ForbiddenError("not yours"), 403)]
)
def test_callers_who_are_not_admitted_are_refused(error: Exception, expected: int) -> None:
    """What `admit` raises becomes the status; the page is not made."""

    def admit(authorization: str, certificate: bytes | None) -> None:
        raise error

    with started(admit=admit) as server:
        assert status(server) == expected


def test_connections_beyond_the_cap_are_closed_and_places_come_free() -> None:
    """Silent clients take all places; the next connection is closed; when they go, pages are served again."""
    with started() as server:
        silent = [connect(server) for _ in range(MAX_CONNECTIONS + 1)]
        assert silent[-1].recv(1) == b""
        for client in silent:
            client.close()
        give_up_s = time.monotonic() + LIMIT_S
        while time.monotonic() < give_up_s:
            try:
                if status(server) == 200:
                    return
            except OSError:
                continue
        pytest.fail("no place came free")


def test_a_client_that_drips_bytes_loses_its_place() -> None:
    """A request that takes longer than the limit in all is cut, however often it sends a byte."""
    clock = Clock()
    with started(clock=clock) as server, connect(server) as client:
        client.sendall(b"GET /hello HTTP/1.0\r\nX: ")
        assert status(server) == 200  # so the server has taken the first connection by now
        clock.now_s = REQUEST_LIMIT_S + 1.0
        assert client.recv(1) == b""


def test_the_end_does_not_wait_for_a_client_that_stays() -> None:
    """A connected client is cut; the server's thread ends."""
    server = HttpServer("127.0.0.1:0", {"/hello": hello}, key="page")
    server.start()
    with connect(server) as client:
        assert status(server) == 200
        assert server.stop(time.monotonic() + LIMIT_S)
        assert client.recv(1) == b""


def test_the_end_does_not_wait_for_a_page_that_hangs() -> None:
    """A request whose page never comes is left behind."""
    release, entered = threading.Event(), threading.Event()

    def hang(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        entered.set()
        release.wait(LIMIT_S)
        return hello(environ, start_response)

    server = HttpServer("127.0.0.1:0", {"/hang": hang}, key="page")
    server.start()
    with connect(server) as client:
        client.sendall(b"GET /hang HTTP/1.0\r\n\r\n")
        assert entered.wait(LIMIT_S)
        assert server.stop(time.monotonic() + LIMIT_S)
        release.set()


def test_metrics_are_served_in_prometheus_text() -> None:
    """A registry as a page."""
    registry = CollectorRegistry()
    Counter("things", "Things.", registry=registry).inc()
    server = HttpServer("127.0.0.1:0", {"/metrics": make_wsgi_app(registry)}, key="metrics_address")
    server.start()
    text = urlopen(f"http://{server.address}/metrics", timeout=LIMIT_S).read().decode()
    server.stop(time.monotonic() + LIMIT_S)
    assert "things_total 1.0" in text


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1:99999", "127.0.0.1:x"])
def test_an_address_that_cannot_be_listened_on_is_named(address: str) -> None:
    """It is a configuration error with key and address."""
    with pytest.raises(ConfigError, match=f"metrics_address: cannot listen on '{address}'"):
        HttpServer(address, {}, key="metrics_address")
