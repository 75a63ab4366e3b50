"""Addresses come apart and together again."""

import pytest

from spillover.common.net.addresses import split_host_port, with_port


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
