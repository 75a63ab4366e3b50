"""TLS key pairs for both sides: checked before use, with their validity."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from spillover.common.errors import ConfigError
from spillover.common.net.reload import read_file

_SOON_DAYS = 30


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate (PEM, with any intermediates), its private key, and its period of validity."""

    certificate_pem: bytes
    key_pem: bytes
    valid_from: datetime
    valid_until: datetime

    def days_left(self, now: datetime) -> float:
        """Days until the certificate expires; negative afterwards."""
        return (self.valid_until - now).total_seconds() / 86400

    def ends_soon(self, now: datetime) -> bool:
        """Whether the certificate should be renewed: it expires within a month."""
        return self.days_left(now) < _SOON_DAYS


def load_key_pair(certificate: Path, key: Path, section: str) -> KeyPair:
    """Read a certificate and its key; `section` is the configuration key that holds both names.

    Raises:
        ConfigError: a file cannot be read, is not PEM, or the two do not match.
    """
    certificate_pem = read_file(certificate, f"{section}.certificate")
    key_pem = read_file(key, f"{section}.key")
    leaf = load_certificates(certificate_pem, f"{section}.certificate: {certificate}")[0]
    try:
        private = load_pem_private_key(key_pem, password=None)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{section}.key: {key} holds no unencrypted PEM private key: {error}") from error
    if private.public_key() != leaf.public_key():
        raise ConfigError(f"{section}.key: {key} is not the key of {certificate}")
    return KeyPair(certificate_pem, key_pem, leaf.not_valid_before_utc, leaf.not_valid_after_utc)


def load_certificates(pem: bytes, name: str) -> list[x509.Certificate]:
    """The certificates of a PEM file, called `name` in the error. Raises ConfigError if there is none."""
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise ConfigError(f"{name} holds no PEM certificate: {error}") from error


def utc_now() -> datetime:
    """The wall clock. Used only for certificates: no timing depends on it."""
    return datetime.now(UTC)
