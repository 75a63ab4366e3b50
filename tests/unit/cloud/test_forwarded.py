"""The header in which a proxy passes a caller's certificate on: what is read, and what is refused."""

from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given
from hypothesis import strategies as st

from spillover.cloud.config import CloudConfig
from spillover.cloud.security.forwarded import FORWARDED, Forwarded, Front, parse
from spillover.cloud.security.roles import PROXY
from spillover.common.config import parse_config
from spillover.common.errors import ConfigError, UnauthenticatedError
from spillover.common.security.tokens import Caller
from tests.support.pki import Pki

KEYS = st.sampled_from(["By", "Hash", "Cert", "Subject", "URI", "DNS", "chain"])
PLAIN = st.text(st.characters(exclude_characters='",;=\\', min_codepoint=33, max_codepoint=126))
ANY = st.text(st.characters(min_codepoint=32, max_codepoint=126))


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    """A CA, and a device of it."""
    pki = Pki(tmp_path_factory.mktemp("ca") / "pki")
    pki.issue("camera-1")
    return pki


@pytest.fixture(scope="module")
def forwarded(pki):
    """What checks the certificates of that CA."""
    return Forwarded(pki.ca, pki.crl)


def header_of(pki, name, **more):
    """As Envoy writes it."""
    pairs = {"Cert": quote(pki.certificate(name).read_text())} | more
    return ";".join(f'{key}="{value}"' for key, value in pairs.items())


def escaped(value):
    """A value as it stands between quotes."""
    return value.replace("\\", "\\\\").replace('"', '\\"')


@given(st.dictionaries(KEYS, st.tuples(ANY, st.booleans()), min_size=1))
def test_what_is_quoted_is_read_as_it_was(pairs):
    """Commas, semicolons, equal signs, quotes and backslashes in a value divide nothing."""
    header = ";".join(f'{key}="{escaped(value)}"' for key, (value, _) in pairs.items())
    assert parse(header) == {key.lower(): value for key, (value, _) in pairs.items()}


@given(st.dictionaries(KEYS, PLAIN, min_size=1))
def test_what_needs_no_quotes_may_go_without(pairs):
    """Envoy quotes some values and not others."""
    assert parse(";".join(f"{key}={value}" for key, value in pairs.items())) == {
        key.lower(): value for key, value in pairs.items()
    }


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused(text):
    """Nothing else comes of it, and what was read says the same when written again."""
    try:
        pairs = parse(text)
    except UnauthenticatedError:
        return
    assert parse(";".join(f'{key}="{escaped(value)}"' for key, value in pairs.items())) == pairs


@given(ANY)
def test_a_second_element_is_refused_however_it_looks(text):
    """What a caller had sent itself would be the first of two; a proxy that replaces it sends one."""
    with pytest.raises(UnauthenticatedError, match="more than one element"):
        parse(f'Cert="{escaped(text)}",Cert="x"')


@pytest.mark.parametrize(
    "header", ["", "Cert", 'Cert="a', 'Cert="a"b', "Cert=a;", "Cert=a;Cert=b", "=a", "a\n=b"]
)
def test_what_is_malformed_is_refused(header):
    """A pair without value, a quote without end, something behind it, a key twice."""
    with pytest.raises(UnauthenticatedError):
        parse(header)


def test_a_good_certificate_names_its_caller(pki, forwarded):
    """Name and role are the certificate's own; what else the header says is not asked."""
    digest = (
        x509.load_pem_x509_certificate(pki.certificate("camera-1").read_bytes()).fingerprint(SHA256()).hex()
    )
    header = header_of(pki, "camera-1", Hash=digest, Subject="CN=alice,OU=operator", URI="spiffe://x")
    assert forwarded.caller(header) == Caller("camera-1", "device")


def test_a_certificate_that_a_handshake_would_refuse_is_refused(pki, forwarded, tmp_path):
    """Another CA of the same name, one that has expired, a server's, and none that can be read."""
    other = Pki(tmp_path / "other")
    other.issue("camera-1")
    pki.issue("old", days=-1)
    pem = quote(pki.certificate("camera-1").read_text())
    for header in (
        header_of(other, "camera-1"),
        header_of(pki, "old"),
        header_of(pki, "cloud"),
        'Cert="x"',
        'Cert="%zz"',
        'Cert="%ff"',
        "Hash=00",
        f'Cert="{pem}{pem}"',
        header_of(pki, "camera-1", Hash="00"),
    ):
        with pytest.raises(UnauthenticatedError):
            forwarded.caller(header)


def test_a_revoked_certificate_is_refused_from_the_next_call_on(tmp_path):
    """The list is followed, also for a header that was good before."""
    pki = Pki(tmp_path / "pki")
    pki.issue("camera-2")
    forwarded = Forwarded(pki.ca, pki.crl)
    header = header_of(pki, "camera-2")
    assert forwarded.caller(header).name == "camera-2"
    pki.authority.revoke("camera-2")
    with pytest.raises(UnauthenticatedError, match="revoked"):
        forwarded.caller(header)


def test_the_header_is_believed_over_a_unix_socket_and_of_a_proxy_alone(pki, forwarded):
    """From anybody else it is refused, and never passed over: somebody relies on it, or tries."""
    sent = [(FORWARDED, header_of(pki, "camera-1"))]
    device, proxy, passed_on = Caller("x", "device"), Caller("front", PROXY), Caller("camera-1", "device")
    by_unix, by_proxy, by_none = (
        Front(forwarded, over_unix=True),
        Front(forwarded, over_unix=False),
        Front(None, over_unix=True),
    )
    assert by_unix.caller(sent, lambda: device) == passed_on
    assert by_proxy.caller(sent, lambda: proxy) == passed_on
    assert by_proxy.caller([], lambda: proxy) == proxy
    assert by_proxy.caller([], lambda: device) == device
    for front, metadata, direct in (
        (by_unix, [], device),
        (by_unix, sent * 2, device),
        (by_proxy, sent, device),
        (by_none, sent, proxy),
    ):
        with pytest.raises(UnauthenticatedError):
            front.caller(metadata, lambda direct=direct: direct)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("security: {forwarded: {client_ca: a}}", "anybody at 127.0.0.1:50051"),
        (
            "listen: unix:/s\nsecurity: {forwarded: {client_ca: a}, tokens_file: b}",
            "forwarded and tokens_file",
        ),
    ],
)
def test_a_proxy_that_cannot_be_told_is_refused(text, says):
    """On a port without certificates everybody could be the proxy."""
    with pytest.raises(ConfigError, match=says):
        parse_config(text, CloudConfig, "cloud.yaml")
