"""TLS of the server: what gRPC is told before each handshake."""

import pytest

from spillover.cloud.config import TlsConfig
from spillover.cloud.rpc.transport import ServerTls
from tests.support.pki import Pki


@pytest.fixture
def pki(tmp_path):
    """A CA, and the server's certificate."""
    return Pki(tmp_path / "pki")


def test_grpc_is_told_of_a_certificate_once(pki):
    """Nothing while the files are as they were, the new ones once: each answer frees what others may use."""
    tls = ServerTls(TlsConfig(**pki.server_tls(mutual=True)))
    tls.credentials()
    assert tls.changed_configuration() is None
    pki.issue("cloud", "server", ("localhost",))
    assert tls.changed_configuration() is not None
    assert tls.changed_configuration() is None
