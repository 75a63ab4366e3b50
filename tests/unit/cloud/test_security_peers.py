"""What is read from a client certificate that the handshake has let through."""

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from spillover.cloud.security.builders import Subject
from spillover.cloud.security.certificates import PEM_CERTIFICATE, Certificates, read_revoked
from spillover.common.errors import ConfigError, UnauthenticatedError
from spillover.common.net.tls import utc_now
from spillover.common.security.tokens import Caller
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


def signed(*usages, organizational_unit=""):
    """The authentication context of a caller whose certificate was made elsewhere, for these purposes."""
    key = ec.generate_private_key(ec.SECP256R1())
    names = [x509.NameAttribute(x509.NameOID.COMMON_NAME, "alice")]
    if organizational_unit:
        names.append(x509.NameAttribute(x509.NameOID.ORGANIZATIONAL_UNIT_NAME, organizational_unit))
    name, now = x509.Name(names), utc_now()
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(days=9))
    if usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    return {PEM_CERTIFICATE: [builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)]}


def test_a_certificate_without_a_role_is_a_devices(pki):
    """The least that there is."""
    context = signed(ExtendedKeyUsageOID.CLIENT_AUTH)
    assert Certificates(pki.ca, None).caller(context) == Caller("alice", "device")


@pytest.mark.parametrize(
    "usages", [(), (ExtendedKeyUsageOID.SERVER_AUTH,), (ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,)]
)
def test_only_a_certificate_for_clients_is_an_identity(pki, usages):
    """One that a CA signed for another purpose, or for none that it names, makes nobody an operator."""
    with pytest.raises(UnauthenticatedError, match="clientAuth"):
        Certificates(pki.ca, None).caller(signed(*usages, organizational_unit="operator"))


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
