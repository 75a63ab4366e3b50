"""Builds X.509 certificates (RFC 5280): one CA, which signs servers and clients, all ECDSA on P-256."""

import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from spillover.common.errors import ConfigError

SERVER = "server"
"""The role of a server: its certificate cannot be used to call, and only it can be used to serve."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The subject of a certificate. `hosts` are the DNS names and IP addresses of a server."""

    name: str
    role: str
    hosts: tuple[str, ...] = ()


def ca_certificate(
    name: str, key: ec.EllipticCurvePrivateKey, start: datetime, end: datetime
) -> x509.Certificate:
    """A self-signed CA that may sign certificates and revocation lists, but no further CA."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return (
        _builder(subject, subject, key.public_key(), start, end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )


def leaf_certificate(
    subject: Subject,
    public_key: ec.EllipticCurvePublicKey,
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    validity: tuple[datetime, datetime],
) -> x509.Certificate:
    """A certificate for a server, or for a client whose role is its organizational unit."""
    names = [x509.NameAttribute(NameOID.COMMON_NAME, subject.name)]
    serves = subject.role == SERVER
    if not serves:
        names.append(x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, subject.role))
    purpose = ExtendedKeyUsageOID.SERVER_AUTH if serves else ExtendedKeyUsageOID.CLIENT_AUTH
    builder = (
        _builder(x509.Name(names), ca.subject, public_key, *validity)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
    )
    if subject.hosts:
        hosts = x509.SubjectAlternativeName([_general_name(host) for host in subject.hosts])
        builder = builder.add_extension(hosts, critical=False)
    return builder.sign(ca_key, hashes.SHA256())


def read_subject(certificate: x509.Certificate) -> Subject:
    """Read the subject of a certificate that `leaf_certificate` made."""
    values = {attribute.oid: str(attribute.value) for attribute in certificate.subject}
    role = values.get(NameOID.ORGANIZATIONAL_UNIT_NAME, SERVER)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return Subject(values[NameOID.COMMON_NAME], role)
    return Subject(values[NameOID.COMMON_NAME], role, tuple(str(name.value) for name in names))


def revocation(serial: int, now: datetime) -> x509.RevokedCertificate:
    """One entry of a revocation list."""
    return x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()


def revocation_list(
    entries: Iterable[x509.RevokedCertificate],
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    updated: datetime,
    next_update: datetime,
) -> x509.CertificateRevocationList:
    """A revocation list of these entries, signed by the CA's key."""
    builder = x509.CertificateRevocationListBuilder().issuer_name(ca.subject)
    builder = builder.last_update(updated).next_update(next_update)
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    builder = builder.add_extension(authority, critical=False)
    builder = builder.add_extension(x509.CRLNumber(int(updated.timestamp() * 1e6)), critical=False)
    for entry in entries:
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(ca_key, hashes.SHA256())


AskPassphrase = Callable[[], bytes]
"""Gives the passphrase of a key; called only when one is needed that is encrypted."""


def no_passphrase() -> bytes:
    """For keys that are not encrypted."""
    raise ConfigError("a key is encrypted, and no passphrase was given")


def load_ec_key(
    pem: bytes, path: Path, passphrase: AskPassphrase = no_passphrase
) -> ec.EllipticCurvePrivateKey:
    """A private key on an elliptic curve; `passphrase` is asked if it is encrypted.

    Raises:
        ConfigError: the passphrase is wrong, or it is damaged or of another kind.
    """
    try:
        try:
            key = load_pem_private_key(pem, password=None)
        except TypeError:  # it is encrypted
            key = load_pem_private_key(pem, passphrase())
    except ValueError as error:
        raise ConfigError(f"{path}: wrong passphrase, or no PEM private key: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError(f"{path} is not a key on an elliptic curve")
    return key


def load_request(path: Path) -> ec.EllipticCurvePublicKey:
    """The public key of a signing request (PKCS #10, PEM); everything else in the request is ignored.

    Raises:
        ConfigError: it cannot be read, is damaged, or its key is not on P-256 or P-384.
    """
    try:
        request = x509.load_pem_x509_csr(path.read_bytes())
        genuine = request.is_signature_valid
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} is no PEM signing request: {error}") from error
    key = request.public_key()
    if not genuine or not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _CURVES:
        raise ConfigError(f"{path}: not signed by its own key, or that is not one on P-256 or P-384")
    return key


_CURVES = ("secp256r1", "secp384r1")


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    start: datetime,
    end: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
