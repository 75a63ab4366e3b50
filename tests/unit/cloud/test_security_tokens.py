"""Tokens at rest and in use."""

import stat

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from spillover.common.errors import ConfigError, UnauthenticatedError
from spillover.common.security.tokens import Caller, Tokens, add_token, read_tokens, revoke_tokens


def test_the_file_holds_no_secret(tmp_path):
    """Neither the token nor its secret is in the file, which only its owner may read."""
    path = tmp_path / "tokens.yaml"
    token = add_token(path, "camera-1", "device", 30)
    name, _, secret = token.partition("~")
    assert name == "camera-1"
    assert len(secret) >= 43  # 256 bits
    assert secret not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_two_tokens_of_one_name_are_both_good(tmp_path):
    """A token can be replaced without a gap; revoking takes both, and leaves the others."""
    path = tmp_path / "tokens.yaml"
    first, second, other = (add_token(path, name, "device", None) for name in ("a", "a", "b"))
    tokens = Tokens(path)
    for token in (first, second):
        assert tokens.caller([("authorization", f"Bearer {token}")]) == Caller("a", "device")
    assert revoke_tokens(path, "a") == 2
    assert revoke_tokens(path, "a") == 0
    assert [token.name for token in read_tokens(path)] == ["b"]
    assert tokens.caller([("authorization", f"bearer {other}")]).name == "b"
    with pytest.raises(UnauthenticatedError):
        tokens.caller([("authorization", f"Bearer {first}")])


def test_a_deleted_file_revokes_every_token(tmp_path):
    """At the next call, and the log says so; a file that comes back is read again."""
    path = tmp_path / "tokens.yaml"
    metadata = [("authorization", f"Bearer {add_token(path, 'a', 'device', None)}")]
    tokens, content = Tokens(path), path.read_bytes()
    path.unlink()
    with capture_logs() as log, pytest.raises(UnauthenticatedError):
        tokens.caller(metadata)
    assert [line["event"] for line in log if line["log_level"] == "warning"] == [
        "token file deleted: no token is good"
    ]
    path.write_bytes(content)
    assert tokens.caller(metadata).name == "a"


def test_a_broken_file_keeps_the_list_before_it(tmp_path):
    """Half a change locks nobody out, and however often it changes, the log has one line in 10 s."""
    path = tmp_path / "tokens.yaml"
    metadata = [("authorization", f"Bearer {add_token(path, 'a', 'device', None)}")]
    tokens = Tokens(path)
    with capture_logs() as log:
        for length in range(1, 5):
            path.write_text("[" * length)
            assert tokens.caller(metadata).name == "a"
        path.unlink()
        path.mkdir()
        assert tokens.caller(metadata).name == "a"
    assert [line["event"] for line in log] == ["changed file not taken over; the old content stays"]


def test_a_file_that_others_may_change_is_warned_of_once(tmp_path):
    """At the start: whoever writes it can let anybody in."""
    path = tmp_path / "tokens.yaml"
    add_token(path, "a", "device", None)
    path.chmod(0o666)
    with capture_logs() as log:
        tokens = Tokens(path)
        with pytest.raises(UnauthenticatedError):
            tokens.caller([])
    [line] = log
    assert line["key"] == "security.tokens_file"
    assert line["because"] == "can be changed by all users (mode 0666): chmod go-w"


@given(st.lists(st.tuples(st.sampled_from(["authorization", "x"]), st.text() | st.binary())))
def test_no_metadata_opens_but_the_token(tmp_path_factory, metadata):
    """Whatever is sent, it is UnauthenticatedError or nothing; never another error."""
    path = tmp_path_factory.mktemp("tokens") / "tokens.yaml"
    path.write_bytes(msgspec.yaml.encode({"tokens": []}))
    with pytest.raises(UnauthenticatedError):
        Tokens(path).caller(metadata)


@pytest.mark.parametrize(
    "text", ["tokens: [", "tokens: [{name: a}]", "tokens: [{name: a, role: b, sha256: secret}]", "token: []"]
)
def test_a_damaged_file_is_named(tmp_path, text):
    """A file that is no list of hashes is refused, and not overwritten."""
    path = tmp_path / "tokens.yaml"
    path.write_text(text)
    for use in (lambda: Tokens(path), lambda: add_token(path, "a", "device", None)):
        with pytest.raises(ConfigError, match=r"tokens\.yaml"):
            use()
    assert path.read_text() == text


@pytest.mark.parametrize("name", ["", "a b", "a~b", "../a", "a" * 65])
def test_a_name_is_a_name(tmp_path, name):
    """Names that could not travel in a header or a certificate are refused."""
    with pytest.raises(ConfigError):
        add_token(tmp_path / "tokens.yaml", name, "device", None)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    """A mistyped path is an error with its name."""
    with pytest.raises(ConfigError, match="nowhere"):
        add_token(tmp_path / "nowhere" / "tokens.yaml", "a", "device", None)
