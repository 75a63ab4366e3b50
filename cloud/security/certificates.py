"""Identities from client certificates, and the check for revoked ones.

gRPC's Python servers check a certificate's chain, dates and purpose in the handshake, but do not support
revocation lists. So revocation is checked here on every call: a revoked device is refused at its next call,
even on an open connection. Dates are checked again for the same reason: a connection, or a resumed TLS
session, may outlive its certificate.

The name is the subject's common name. The role is its organizational unit, or `device` without one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from spillover.common.errors import ConfigError, UnauthenticatedError
from spillover.common.log import get_logger
from spillover.common.net.reload import Reloading, read_file
from spillover.common.net.tls import load_certificates, utc_now
from spillover.common.security.tokens import Caller

DEVICE = "device"
PEM_CERTIFICATE = "x509_pem_cert"
"""Key of the client's verified certificate in gRPC's authentication context."""
_MAX_REMEMBERED = 4096

Revoked = frozenset[tuple[x509.Name, int]]
"""Issuer and serial number of every revoked certificate."""


@dataclass(frozen=True, slots=True)
class Peer:
    """The identity and validity in one client certificate."""

    caller: Caller
    issuer: x509.Name
    serial: int
    valid_until: datetime


class Certificates:
    """Identifies callers by their verified client certificates; reloads the revocation list, if any.

    Raises:
        ConfigError: `crl` is configured and cannot be read, or no CA in `client_ca` has signed it.
    """

    def __init__(self, client_ca: Path, crl: Path | None, section: str = "security.tls") -> None:
        self._revoked: Reloading[Revoked] | None = None
        if crl is not None:
            self._revoked = Reloading([crl, client_ca], lambda: read_revoked(crl, client_ca, section))
        self._peer = lru_cache(_MAX_REMEMBERED)(read_peer)

    def caller(self, auth_context: Mapping[str, Iterable[bytes]]) -> Caller:
        """The caller that the handshake verified. Raises UnauthenticatedError: none, expired, or revoked."""
        pem = next(iter(auth_context.get(PEM_CERTIFICATE, ())), None)
        if pem is None:
            raise UnauthenticatedError("this server wants a client certificate")
        return self.valid(self._peer(pem))

    def valid(self, peer: Peer) -> Caller:
        """Who a good certificate names. Raises UnauthenticatedError: it has expired or was revoked."""
        if peer.valid_until <= utc_now():
            raise UnauthenticatedError(f"the certificate of {peer.caller.name!r} has expired")
        if self._revoked and (peer.issuer, peer.serial) in self._revoked.get():
            raise UnauthenticatedError(f"the certificate of {peer.caller.name!r} has been revoked")
        return peer.caller


def read_peer(pem: bytes) -> Peer:
    """The identity in a certificate for client authentication.

    TLS libraries take a certificate without an extended key usage for any purpose. Here it must name this
    one: whoever signed it for a mail address or a printer did not mean to make a device of it.

    Raises:
        UnauthenticatedError: it has no name, is not for client authentication, or is damaged.
    """
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        issuer, subject = certificate.issuer, certificate.subject
        is_for_clients = _is_for_clients(certificate)
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise UnauthenticatedError(f"the client certificate cannot be read: {error}") from error
    if not is_for_clients:
        raise UnauthenticatedError(
            "the client certificate is not made for client authentication (extended key usage clientAuth)"
        )
    name = _attribute(subject, NameOID.COMMON_NAME)
    if not name:
        raise UnauthenticatedError("the client certificate's subject has no common name")
    role = _attribute(subject, NameOID.ORGANIZATIONAL_UNIT_NAME) or DEVICE
    return Peer(Caller(name, role), issuer, certificate.serial_number, certificate.not_valid_after_utc)


def read_revoked(crl: Path, client_ca: Path, section: str = "security.tls") -> Revoked:
    """The certificates that a revocation list (RFC 5280, PEM) revokes.

    An outdated list, past its next update, still holds, and is logged. `section` of the configuration names
    both files.

    Raises:
        ConfigError: it cannot be read, is no list, or is not signed by a CA of `client_ca`.
    """
    try:
        revocations = x509.load_pem_x509_crl(read_file(crl, f"{section}.crl"))
    except ValueError as error:
        raise ConfigError(f"{section}.crl: {crl} is no PEM revocation list: {error}") from error
    authorities = load_certificates(
        read_file(client_ca, f"{section}.client_ca"), f"{section}.client_ca: {client_ca}"
    )
    if not any(_has_signed(authority, revocations) for authority in authorities):
        raise ConfigError(f"{section}.crl: {crl} is not signed by a CA in {client_ca}")
    due = revocations.next_update_utc
    if due is not None and due < utc_now():
        get_logger("security").warning("the revocation list is older than it promised", due=due.isoformat())
    return frozenset((revocations.issuer, entry.serial_number) for entry in revocations)


def _has_signed(authority: x509.Certificate, revocations: x509.CertificateRevocationList) -> bool:
    key = authority.public_key()
    try:
        return authority.subject == revocations.issuer and revocations.is_signature_valid(key)  # type: ignore[arg-type]  # a CA's key is of a kind that signs
    except TypeError:
        return False


def _is_for_clients(certificate: x509.Certificate) -> bool:
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return ExtendedKeyUsageOID.CLIENT_AUTH in usage


def _attribute(name: x509.Name, oid: x509.ObjectIdentifier) -> str:
    attributes = name.get_attributes_for_oid(oid)
    return str(attributes[0].value) if attributes else ""
