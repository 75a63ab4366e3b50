"""Being open to the network by mistake is refused by the key's name; asking in so many words works."""

import pytest

from spillover.cloud.config import CloudConfig
from spillover.common.config import parse_config
from spillover.common.errors import ConfigError
from spillover.common.net.addresses import is_loopback

TLS = "tls: {certificate: a, key: b}"
MUTUAL = "tls: {certificate: a, key: b, client_ca: c}"


@pytest.mark.parametrize(
    "text",
    [
        "listen: 127.0.0.1:1",
        "listen: '[::1]:1'",
        "listen: localhost:1",
        f"listen: 0.0.0.0:1\nsecurity: {{{MUTUAL}}}",
        f"listen: 0.0.0.0:1\nsecurity: {{{TLS}, tokens_file: t}}",
        f"listen: 0.0.0.0:1\nsecurity: {{{TLS}, allow_anonymous_network: true}}",
        "listen: 0.0.0.0:1\nsecurity: {tokens_file: t, allow_plaintext_network: true}",
        "listen: 0.0.0.0:1\nsecurity: {allow_plaintext_network: true, allow_anonymous_network: true}",
    ],
)
def test_what_is_safe_or_asked_for_is_taken(text):
    """Loopback needs nothing; the network needs TLS and identities, or the words that waive them."""
    parse_config(f"{text}\nmetrics: null", CloudConfig, "cloud.yaml")


@pytest.mark.parametrize("key", ["listen", "metrics"])
@pytest.mark.parametrize("address", ["0.0.0.0:1", "'[::]:1'", "192.0.2.1:1", "cloud.example:1"])
@pytest.mark.parametrize(
    ("security", "says"),
    [
        ("{}", "allow_plaintext_network"),
        ("{tokens_file: t}", "allow_plaintext_network"),
        ("{allow_anonymous_network: true}", "allow_plaintext_network"),
        ("{allow_plaintext_network: true}", "allow_anonymous_network"),
        (f"{{{TLS}}}", "allow_anonymous_network"),
    ],
)
def test_an_open_door_is_refused_by_name(key, address, security, says):
    """The error names the key, its value, and the key that would allow it."""
    with pytest.raises(ConfigError) as refused:
        parse_config(f"{key}: {address}\nsecurity: {security}", CloudConfig, "cloud.yaml")
    assert says in str(refused.value)
    assert f"{key}: {address.strip(chr(39))}" in str(refused.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"security: {{{MUTUAL}, tokens_file: t}}", "client_ca"),
        ("security: {tls: {certificate: a, key: b, crl: c}}", "client_ca"),
        ("security: {tls: {certificate: a}}", "key"),
        ("security: {roles: {device: [everything]}}", "roles"),
        ("limits: {max_streams: 0}", "max_streams"),
    ],
)
def test_what_contradicts_itself_is_refused(text, says):
    """Two sources of identity, a revocation list for nobody, half a pair, a permission that there is not."""
    with pytest.raises(ConfigError, match=says):
        parse_config(text, CloudConfig, "cloud.yaml")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:1", True),
        ("127.9.9.9:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("dns:///localhost:1", True),
        ("unix:/run/cloud", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("10.0.0.1:1", False),
        ("localhost.example:1", False),
        ("127.0.0.1.example:1", False),
    ],
)
def test_loopback_is_what_only_this_machine_reaches(address, expected):
    """Names that merely look like loopback are not."""
    assert is_loopback(address) is expected
