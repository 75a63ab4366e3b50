"""What is read from a client certificate that the handshake has let through."""

import pytest

from spillover.cloud.security.builders import Subject
from spillover.cloud.security.certificates import PEM_CERTIFICATE, Certificates, read_revoked
from spillover.cloud.security.roles import Caller
from spillover.common.errors import ConfigError, UnauthenticatedError
from tests.support.pki import Pki


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    """A CA."""
    return Pki(tmp_path_factory.mktemp("pki") / "ca")


def shown(pki, *subject, days=9):
    """The authentication context of a caller with such a certificate."""
    return {PEM_CERTIFICATE: [pki.authority.issue(Subject(*subject), days)[0]]}


def test_name_and_role_are_the_subjects(pki):
    """Common name and organizational unit; without a list of revocations too."""
    certificates = Certificates(pki.ca, None)
    assert certificates.caller(shown(pki, "alice", "operator")) == Caller("alice", "operator")


def test_a_certificate_without_a_role_is_a_devices(pki):
    """The least that there is."""
    assert Certificates(pki.ca, None).caller(shown(pki, "cloud", "server")).role == "device"


def test_a_certificate_that_ended_on_an_open_connection_is_refused(pki):
    """The handshake was in time; the call is not."""
    with pytest.raises(UnauthenticatedError, match="expired"):
        Certificates(pki.ca, pki.crl).caller(shown(pki, "camera-1", "device", days=-1))


@pytest.mark.parametrize("context", [{}, {PEM_CERTIFICATE: []}, {PEM_CERTIFICATE: [b"-----"]}])
def test_what_is_no_certificate_is_nobody(pki, context):
    """No certificate, or one that cannot be read, is the caller's fault."""
    with pytest.raises(UnauthenticatedError):
        Certificates(pki.ca, None).caller(context)


def test_a_list_of_another_authority_is_refused(pki, tmp_path):
    """Nobody can forgive or condemn with a list that the CA has not signed, even under its name."""
    other = Pki(tmp_path / "other")
    with pytest.raises(ConfigError, match="not signed"):
        read_revoked(other.crl, pki.ca)
    with pytest.raises(ConfigError, match="no PEM revocation list"):
        read_revoked(pki.ca, pki.ca)
    with pytest.raises(ConfigError, match=r"security\.tls\.crl"):
        read_revoked(tmp_path / "none", pki.ca)
