"""Addresses come apart and together again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillover.common.net.addresses import split_host_port, with_password, with_port, without_password


@pytest.mark.parametrize(
    ("address", "parts"),
    [("127.0.0.1:80", ("127.0.0.1", 80)), ("[::1]:80", ("::1", 80)), ("localhost:0", ("localhost", 0))],
)
def test_host_and_port(address, parts):
    """IPv6 loses its brackets: sockets take the bare address."""
    assert split_host_port(address) == parts


@pytest.mark.parametrize("address", ["localhost", "localhost:", "localhost:http"])
def test_no_port_is_an_error(address):
    """A host alone is no address."""
    with pytest.raises(ValueError, match="invalid literal"):
        split_host_port(address)


def test_another_port():
    """The host stays as it was written."""
    assert with_port("[::1]:0", 50051) == "[::1]:50051"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://admin:s3cret@192.0.2.7:554/cam", "rtsp://admin:***@192.0.2.7:554/cam"),
        ("RTSP://admin:s3c@ret@host/x", "RTSP://admin:***@host/x"),
        ("rtsp://admin:s3c/ret@host/x", "rtsp://admin:***@host/x"),
        ("rtsp://admin:s3c ret@host/x", "rtsp://admin:***@host/x"),
        ("rtsp://admin:'s3cret@host/x", "rtsp://admin:***@host/x"),
        ("http://h/v.cgi?user=a&pwd=s3cret&res=1", "http://h/v.cgi?user=a&pwd=***&res=1"),
        ("rtsp://h/user=a_password=s3cret_channel=1", "rtsp://h/user=a_password=***_channel=1"),
        ("https://h/x?access_token=s3cret", "https://h/x?access_token=***"),
        ("mqtt://u:s3cret@h:1883", "mqtt://u:***@h:1883"),
        ("cannot open 'rtsp://a:s3cret@h/c' (a:b@c)", "cannot open 'rtsp://a:***@h/c' (a:b@c)"),
        ("rtsp://a:s3cret@h/1, rtsp://b:s3cret@h/2", "rtsp://a:***@h/1, rtsp://b:***@h/2"),
        ("rtsp://admin@h:554/cam", "rtsp://admin@h:554/cam"),
        ("http://[2001:db8::1]:80/@x", "http://[2001:db8::1]:80/@x"),
        ("/dev/video0", "/dev/video0"),
        ("clips/a:b@c.mp4", "clips/a:b@c.mp4"),
    ],
)
def test_passwords_of_urls_are_not_shown(url, shown):
    """Nor of several in one sentence; all else of the text stays."""
    assert without_password(url) == shown


_PASSWORDS = st.text(st.characters(codec="utf-8", exclude_characters="*"), min_size=1).filter(str.strip)


@given(_PASSWORDS, st.sampled_from(["rtsp://u@h/a", "http://u@[::1]:80/?x=1"]))
def test_any_password_that_is_put_into_a_url_can_be_hidden(password, url):
    """What one function puts in, the other hides, whatever its characters."""
    filled = with_password(url, password)
    assert filled != url
    assert without_password(filled) == url.replace("u@", "u:***@")


@pytest.mark.parametrize("url", ["rtsp://host/x", "rtsp://u:p@host/x", "clip.mp4", "rtsp://:p@host"])
def test_a_password_needs_a_user_without_one(url):
    """Where it would go is clear, or refused."""
    with pytest.raises(ValueError, match="must name a user and no password"):
        with_password(url, "x")
