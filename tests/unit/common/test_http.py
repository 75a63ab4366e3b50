"""The HTTP server: serves its pages, bounds what a client may hold, and ends when it is told to."""

import os
import resource
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import SimpleNamespace
from urllib.error import HTTPError
from urllib.request import urlopen
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest
from prometheus_client import CollectorRegistry, Counter, make_wsgi_app

from spillover.common.errors import (
    ConfigError,
    ForbiddenError,
    SlowCallerError,
    SpilloverError,
    UnauthenticatedError,
)
from spillover.common.net.http import (
    HEADERS_LIMIT_S,
    MAX_HEADER_BYTES,
    MAX_OF_ADDRESS,
    MAX_STREAMS,
    REQUEST_LIMIT_S,
    STREAM,
    HttpServer,
    read_body,
)
from spillover.common.net.http.handler import Handler

LIMIT_S = 30.0
MOST = 1_000_000


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


def test_open_pages_need_no_identity() -> None:
    """A probe has none; every other page asks, and what is no page is 404 for everybody."""

    def admit(authorization: str, certificate: bytes | None) -> None:
        raise UnauthenticatedError("no proof")

    with started(admit=admit, open_routes={"/livez": hello}) as server:
        assert [status(server, path) for path in ("/livez", "/hello", "/other")] == [200, 401, 404]


def test_silent_clients_lose_their_places_to_those_who_ask() -> None:
    """However many say nothing: each page is served at once, and the oldest connection is closed."""
    with started() as server:
        silent = [connect(server) for _ in range(MAX_OF_ADDRESS)]
        for client in silent:
            client.sendall(b"GET /hello HTTP/1.0\r\nX: ")
        for _ in range(5):
            assert status(server) == 200
        assert silent[0].recv(1) == b""
        for client in silent:
            client.close()


def test_who_has_proven_itself_keeps_its_place() -> None:
    """A scraper whose page takes its time is not pushed out by clients that prove nothing."""
    release, entered = threading.Event(), threading.Event()

    def slow(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        entered.set()
        assert release.wait(LIMIT_S)
        return hello(environ, start_response)

    def admit(authorization: str, certificate: bytes | None) -> None:
        if authorization != "Bearer good":
            raise UnauthenticatedError("no proof")

    server = HttpServer("127.0.0.1:0", {"/slow": slow}, key="page", admit=admit, open_routes={"/": hello})
    server.start()
    try:
        with connect(server) as scraper:
            scraper.sendall(b"GET /slow HTTP/1.0\r\nAuthorization: Bearer good\r\n\r\n")
            assert entered.wait(LIMIT_S)
            others = [connect(server) for _ in range(3 * MAX_OF_ADDRESS)]
            assert status(server, "/") == 200  # all of them have been taken by now
            release.set()
            assert b"200 OK" in scraper.recv(1000)
            for other in others:
                other.close()
    finally:
        server.stop(time.monotonic() + LIMIT_S)


@pytest.mark.parametrize("sent", [b"GET /hello HTTP/1.0\r\nX: ", b""])
def test_a_client_that_drips_bytes_loses_its_place(sent: bytes) -> None:
    """A request that is not there in whole in time is cut, however often its client sends a byte."""
    clock = Clock()
    with started(clock=clock) as server, connect(server) as client:
        client.sendall(sent)
        assert status(server) == 200  # so the server has taken the first connection by now
        clock.now_s = HEADERS_LIMIT_S + 0.1
        assert client.recv(1) == b""


def test_an_answer_that_takes_too_long_is_cut() -> None:
    """Who has asked in time has longer, and not for ever."""
    clock, release, entered = Clock(), threading.Event(), threading.Event()

    def hang(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        entered.set()
        release.wait(LIMIT_S)
        return hello(environ, start_response)

    with started(clock=clock, open_routes={"/hang": hang}) as server, connect(server) as client:
        client.sendall(b"GET /hang HTTP/1.0\r\n\r\n")
        assert entered.wait(LIMIT_S)
        clock.now_s = REQUEST_LIMIT_S + 0.1
        assert client.recv(1) == b""
        release.set()


def test_a_request_of_endless_headers_is_refused() -> None:
    """The server reads so many bytes of it and no more; who still listens then hears why."""
    with started() as server, connect(server) as client:
        client.sendall(b"GET /hello HTTP/1.0\r\n")
        with suppress(OSError):  # closed meanwhile
            for _ in range(80):
                client.sendall(b"X: %s\r\n" % (b"x" * (MAX_HEADER_BYTES // 40)))
            client.sendall(b"\r\n")
        with suppress(ConnectionError):
            assert client.recv(12) in {b"", b"HTTP/1.0 431"}
        assert status(server) == 200


def test_a_path_that_is_too_long_gets_an_answer() -> None:
    """One that is over the limit by a little has been read whole, so that the answer arrives."""
    with started() as server, connect(server) as client:
        client.sendall(b"GET /%s HTTP/1.0\r\n\r\n" % (b"x" * MAX_HEADER_BYTES))
        assert client.recv(12) == b"HTTP/1.0 431"


class Endless:
    """A page without an end: counts who is being answered, and sends what it is told to."""

    def __init__(self, part: bytes) -> None:
        self.open = 0
        self.go_on = threading.Semaphore(0)
        self._part = part

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer for as long as the client reads, if there is a place for it."""
        if not environ[STREAM]():
            start_response("503 Service Unavailable", [("Content-Type", "text/plain")])
            return [b"full\n"]
        start_response("200 OK", [("Content-Type", "text/plain")])
        return self._parts()

    def _parts(self) -> Iterator[bytes]:
        self.open += 1
        try:
            while True:
                yield self._part
                self.go_on.acquire(timeout=LIMIT_S)
        finally:
            self.open -= 1


@contextmanager
def streaming(part: bytes, clock: Clock) -> Iterator[tuple[HttpServer, Endless]]:
    """A server with a page that ends and one that does not, `/stream`."""
    page = Endless(part)
    server = HttpServer("127.0.0.1:0", {"/hello": hello, "/stream": page}, key="page", clock=clock)
    server.start()
    try:
        yield server, page
    finally:
        page.go_on.release(1000)
        server.stop(time.monotonic() + LIMIT_S)


def test_who_has_begun_a_stream_gives_way_to_nobody() -> None:
    """Newcomers and the limit for one request leave it; there are so many of them and no more."""
    clock = Clock()
    with streaming(b"x", clock) as (server, page), ExitStack() as stack:
        clients = []
        for _ in range(MAX_STREAMS):
            clients.append(client := stack.enter_context(connect(server)))
            client.sendall(b"GET /stream HTTP/1.0\r\n\r\n")
            assert client.recv(12) == b"HTTP/1.0 200"
        for _ in range(3 * MAX_OF_ADDRESS):
            assert status(server) == 200
        assert status(server, "/stream") == 503
        clock.now_s += 10 * REQUEST_LIMIT_S
        assert status(server) == 200
        assert page.open == MAX_STREAMS
        page.go_on.release(MAX_STREAMS)
        for client in clients:
            while not client.recv(4096).endswith(b"x"):
                pass


def test_a_stream_that_is_not_read_ends(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    """Its thread waits for the client alone, and for so long; nothing is written about it."""
    monkeypatch.setattr(Handler, "timeout", 0.3)
    with streaming(b"x" * 1_000_000, Clock()) as (server, page), connect(server) as client:
        client.sendall(b"GET /stream HTTP/1.0\r\n\r\n")
        client.recv(1)
        assert status(server) == 200
        page.go_on.release(1000)
        end_s = time.monotonic() + LIMIT_S
        while page.open and time.monotonic() < end_s:
            assert status(server) == 200
        assert page.open == 0
    assert capfd.readouterr().err == ""


def test_a_full_table_of_descriptors_does_not_close_the_page() -> None:
    """The process has none left: clients are served from a reserve, again and again."""
    with started() as server:
        clients = [socket.socket() for _ in range(12)]
        host, _, port = server.address.rpartition(":")
        taken = []
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(client.fileno() for client in clients) + 50, hard))
        try:
            with suppress(OSError):
                while True:
                    taken.append(os.open("/dev/null", os.O_RDONLY))
            for client in clients:
                client.settimeout(LIMIT_S)
                client.connect((host, int(port)))
                client.sendall(b"GET /hello HTTP/1.0\r\n\r\n")
                assert b"200 OK" in client.recv(1000)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for descriptor in taken:
                os.close(descriptor)
            for client in clients:
                client.close()
        assert status(server) == 200


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


def echo(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """The length of the body, or why there is none; `/none` reads none."""
    try:
        said = b"" if environ["PATH_INFO"] == "/none" else b"%d" % len(read_body(environ, MOST))
    except SpilloverError as error:
        said = type(error).__name__.encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(said)))])
    return [said]


@pytest.mark.parametrize(
    ("path", "length", "sent", "said"),
    [
        ("/", MOST, MOST, b"%d" % MOST),
        ("/", 0, 0, b"0"),
        ("/", MOST + 1, MOST + 1, b"TooLargeError"),
        ("/", 20 * MOST, 20 * MOST, b"TooLargeError"),
        ("/", 10, 3, b"InvalidInputError"),
        ("/", "x", 0, b"InvalidInputError"),
        ("/none", 20 * MOST, 20 * MOST, b""),
    ],
)
def test_a_body_is_read_within_its_bound(path: str, length: int | str, sent: int, said: bytes) -> None:
    """Who sends more hears why, at the end of all that it sends: nothing of it is kept."""
    with started(open_routes={"/": echo, "/none": echo}) as server, connect(server) as client:
        client.sendall(f"POST {path} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n".encode())
        client.sendall(bytes(sent))
        client.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: client.recv(4096), b""))
        assert answer.startswith(b"HTTP/1.0 200")
        assert answer.endswith(b"\r\n\r\n" + said)


def test_a_body_that_drips_is_given_up() -> None:
    """Each byte comes soon after the last, and all of them take too long."""
    now_s = iter(range(0, 1000, 5))
    drips = {"CONTENT_LENGTH": "100", "wsgi.input": SimpleNamespace(read1=lambda _: b"x")}
    with pytest.raises(SlowCallerError):
        read_body(drips, 100, clock=lambda: float(next(now_s)))
