"""Unix sockets: published whole, never taken from who answers, below long paths, with pages over them."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from spillover.common.errors import ConfigError, UnavailableError
from spillover.common.net.fetch import MAX_BYTES, fetch
from spillover.common.net.http import MAX_OF_ADDRESS, HttpServer
from spillover.common.net.unix import is_served

LIMIT_S = 30.0


def hello(environ, start_response):
    """A page."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ["REMOTE_ADDR"].encode()]


@contextmanager
def started(path: Path, page=hello) -> Iterator[HttpServer]:
    """A server at `path`."""
    server = HttpServer(f"unix:{path}", {"/hello": page}, key="page")
    server.start()
    try:
        yield server
    finally:
        assert server.stop(time.monotonic() + LIMIT_S)


@pytest.mark.parametrize("folder", ["short", "long-" * 40])
def test_a_page_is_served_over_a_socket(tmp_path, folder):
    """Also below a folder whose path no socket's address could hold; the file is gone at the end."""
    path = tmp_path / folder / "s.sock"
    path.parent.mkdir()
    with started(path) as server:
        assert fetch(server.address, "/hello", LIMIT_S) == (200, b"unix")
        assert fetch(server.address, "/other", LIMIT_S)[0] == 404
        assert path.stat().st_mode & 0o777 == 0o660
    assert list(path.parent.iterdir()) == []


def test_a_socket_is_not_taken_from_a_server_that_answers(tmp_path):
    """The second server is refused, and the first goes on."""
    path = tmp_path / "s.sock"
    with started(path) as server:
        with pytest.raises(ConfigError, match="another server answers"):
            HttpServer(f"unix:{path}", {}, key="page")
        assert fetch(server.address, "/hello", LIMIT_S)[0] == 200
    assert list(tmp_path.iterdir()) == []


def test_a_socket_that_is_left_behind_is_replaced(tmp_path):
    """That of a server that was killed."""
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    assert not is_served(path)
    with started(path):
        assert is_served(path)


def test_what_is_no_socket_is_left_alone(tmp_path):
    """A file of somebody else's."""
    path = tmp_path / "s.sock"
    path.write_text("mine")
    with pytest.raises(ConfigError, match="exists and is no socket"):
        HttpServer(f"unix:{path}", {}, key="page")
    assert path.read_text() == "mine"


def test_a_server_removes_only_its_own_socket(tmp_path):
    """One that has been replaced by another's stays."""
    path, others = tmp_path / "s.sock", tmp_path / "others.sock"
    with started(path), started(others):
        others.rename(path)
        others.touch()
    assert sorted(tmp_path.iterdir()) == [others, path]


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    """It names the path."""
    with pytest.raises(ConfigError, match=r"none/s\.sock"):
        HttpServer(f"unix:{tmp_path}/none/s.sock", {}, key="page")


def test_silent_clients_do_not_keep_others_out(tmp_path):
    """All clients of a socket are one address; a newcomer takes the place of the oldest."""
    path = tmp_path / "s.sock"
    with started(path) as server:
        silent = [socket.socket(socket.AF_UNIX) for _ in range(2 * MAX_OF_ADDRESS)]
        try:
            for one in silent:
                one.connect(str(path))
            assert fetch(server.address, "/hello", LIMIT_S)[0] == 200
        finally:
            for one in silent:
                one.close()


def test_a_page_without_end_is_refused(tmp_path):
    """At most so many bytes are read."""

    def endless(environ, start_response):
        start_response("200 OK", [])
        return [bytes(MAX_BYTES + 1)]

    with started(tmp_path / "s.sock", endless) as server, pytest.raises(UnavailableError, match="more than"):
        fetch(server.address, "/hello", LIMIT_S)


def test_a_server_that_says_nothing_is_given_up(tmp_path):
    """After the limit."""
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen(1)
        with pytest.raises(UnavailableError, match=r"s\.sock"):
            fetch(f"unix:{path}", "/", 0.1)


def test_a_server_that_answers_byte_by_byte_is_given_up(tmp_path):
    """Each byte comes in time, the page never: the limit is one for all of it."""
    path, over = tmp_path / "slow.sock", threading.Event()

    def drip(listener):
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nA: ")
            while not over.wait(0.02):
                connection.sendall(b"x")

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        server = threading.Thread(target=drip, args=[listener])
        server.start()
        stop = threading.Timer(5.0, over.set)  # without a limit the page would end here
        stop.start()
        with pytest.raises(UnavailableError, match="timed out"):
            fetch(f"unix:{path}", "/", 0.3)
        over.set()
        stop.cancel()
        server.join()
