"""`listen: unix:/path`: who may connect, and what becomes of the file."""

import socket
import stat
from pathlib import Path

import pytest

from spillover.common.errors import ConfigError
from tests.support.envoy import socket_folder
from tests.support.models import colour_classifier
from tests.support.serving import CALL_S, cloud_config, jpeg_of, request_for, serving, stub_of


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """One model."""
    folder = tmp_path_factory.mktemp("repository")
    colour_classifier(folder)
    return folder


@pytest.fixture
def path():
    """Where the socket is to be."""
    with socket_folder() as folder:
        yield folder / "grpc.sock"


def listening(repository, path: Path):
    """A server on the socket."""
    return serving(cloud_config(repository, listen=f"unix:{path}"))


def test_calls_are_answered_and_the_file_goes_with_the_server(repository, path):
    """Owner and group may connect, nobody else; at the stop the file is removed."""
    with listening(repository, path) as server:
        assert server.address == f"unix:{path}"
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        with stub_of(server) as stub:
            assert stub.Infer(request_for(jpeg_of((0, 0, 255))), timeout=CALL_S).frame_id == "f1"
    assert not path.exists()


def test_a_socket_left_behind_is_replaced(repository, path):
    """A server that was killed leaves its file; the next one starts all the same."""
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
        killed.listen()
    with listening(repository, path) as server, stub_of(server) as stub:
        assert stub.Infer(request_for(jpeg_of((0, 0, 255))), timeout=CALL_S).frame_id == "f1"


def test_the_socket_of_a_server_that_answers_is_not_taken(repository, path):
    """The second server says so and does not start; the first one goes on."""
    with listening(repository, path) as server:
        with pytest.raises(ConfigError, match="another server listens"), listening(repository, path):
            pass
        with stub_of(server) as stub:
            assert stub.Infer(request_for(jpeg_of((0, 0, 255))), timeout=CALL_S).frame_id == "f1"


def test_a_file_that_is_no_socket_is_kept(repository, path):
    """A path that was mistyped costs nobody a file."""
    path.write_text("precious")
    with pytest.raises(ConfigError, match="no socket"), listening(repository, path):
        pass
    assert path.read_text() == "precious"


def test_a_folder_that_does_not_exist_is_named(repository, path):
    """The error names the folder."""
    none = path.parent / "none"
    with pytest.raises(ConfigError, match=str(none)), listening(repository, none / "grpc.sock"):
        pass
