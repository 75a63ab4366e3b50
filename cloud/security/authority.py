"""A private certificate authority in a folder: what it has issued, and what it has revoked.

    ca.crt      what the other side is given to check certificates with
    ca.key      the one secret of the folder; with it any identity can be forged. Encrypted on request
    crl.pem     the revocation list (RFC 5280)
    issued/     a copy of every certificate, by serial number

Certificates are backdated by a year. The start date protects nothing here, and a computer without a battery
clock, such as a Raspberry Pi, boots with a date in the past and would refuse a certificate of today.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from spillover.cloud.security import builders
from spillover.cloud.security.builders import AskPassphrase, Subject, no_passphrase
from spillover.common.errors import ConfigError, NotFoundError
from spillover.common.net.reload import read_file
from spillover.common.net.tls import load_certificates, utc_now
from spillover.common.security.files import locked, make_folder, write_private, write_public

CA_CERTIFICATE, CA_KEY, CRL, ISSUED = "ca.crt", "ca.key", "crl.pem", "issued"
CA_DAYS = 3650
CRL_DAYS = 3650
"""A list is replaced when something is revoked, not by the calendar, so it stays valid as long as the CA."""
BACKDATED = timedelta(days=365)
MIN_PASSPHRASE = 16
"""Characters. PKCS #8 as `cryptography` writes it slows guessing down little (PBKDF2, 2048 rounds)."""


@dataclass(frozen=True, slots=True)
class Issued:
    """One certificate that the authority has issued."""

    certificate: x509.Certificate
    subject: Subject
    revoked: bool

    @property
    def days_left(self) -> float:
        """Days until it expires; negative afterwards."""
        return (self.certificate.not_valid_after_utc - utc_now()).total_seconds() / 86400

    @property
    def is_good(self) -> bool:
        """Whether it is neither expired nor revoked."""
        return self.days_left > 0 and not self.revoked


class Authority:
    """The certificate authority of one folder. What it has issued can be read without its key.

    Raises:
        ConfigError: the folder has no authority, or its files are damaged.
    """

    def __init__(self, folder: Path, passphrase: AskPassphrase = no_passphrase) -> None:
        self.folder = folder
        self._passphrase = passphrase
        if not (folder / CA_KEY).exists():
            raise ConfigError(f"no certificate authority in {folder}; `spillover cloud certs init` makes one")
        path = folder / CA_CERTIFICATE
        name = f"authority {folder}"
        self._certificate = load_certificates(read_file(path, name), f"{name}: {path}")[0]

    @cached_property
    def _key(self) -> ec.EllipticCurvePrivateKey:
        """The key that signs. Raises ConfigError: wrong passphrase, damaged, or not the certificate's."""
        path = self.folder / CA_KEY
        key = builders.load_ec_key(read_file(path, f"authority {self.folder}"), path, self._passphrase)
        if key.public_key() != self._certificate.public_key():
            raise ConfigError(f"{path} is not the key of {self.folder / CA_CERTIFICATE}")
        return key

    @classmethod
    def create(cls, folder: Path, name: str, passphrase: bytes = b"") -> "Authority":
        """Make an authority called `name` in a new folder; with a passphrase its key is encrypted.

        Raises ConfigError if the folder has one already, or the passphrase is short.
        """
        if passphrase:
            check_passphrase(passphrase)
        make_folder(folder)
        with locked(folder):
            if (folder / CA_KEY).exists():
                raise ConfigError(f"{folder} has a certificate authority; it is not overwritten")
            key = ec.generate_private_key(ec.SECP256R1())
            start, end = _validity(CA_DAYS)
            certificate = builders.ca_certificate(name, key, start, end)
            write_public(folder / CA_CERTIFICATE, certificate.public_bytes(Encoding.PEM))
            write_private(folder / CA_KEY, key_pem(key, passphrase))
            authority = cls(folder, lambda: passphrase)
            authority._write_crl([])
        return authority

    def issue(
        self, subject: Subject, days: float, public_key: ec.EllipticCurvePublicKey | None = None
    ) -> tuple[bytes, bytes]:
        """Issue a certificate for `subject`; returns it and its new private key, both PEM.

        If `public_key` is given, the subject has its own private key, and the returned key is empty.
        """
        key = None if public_key else ec.generate_private_key(ec.SECP256R1())
        start, end = _validity(days)
        certificate = builders.leaf_certificate(
            subject,
            public_key or key.public_key(),  # type: ignore[union-attr]  # one of the two is there
            self._certificate,
            self._key,
            (start, min(end, self._certificate.not_valid_after_utc)),
        )
        pem = certificate.public_bytes(Encoding.PEM)
        make_folder(self.folder / ISSUED)
        write_public(self.folder / ISSUED / f"{certificate.serial_number:x}.crt", pem)
        return pem, key_pem(key) if key else b""

    def issued(self) -> list[Issued]:
        """Every certificate, by name, oldest first. Raises ConfigError if the revocation list is damaged."""
        revoked = {entry.serial_number for entry in self._revocations()}
        certificates = [
            load_certificates(read_file(path, "authority"), f"authority: {path}")[0]
            for path in (self.folder / ISSUED).glob("*.crt")
        ]
        issued = [
            Issued(certificate, builders.read_subject(certificate), certificate.serial_number in revoked)
            for certificate in certificates
        ]
        return sorted(issued, key=lambda item: (item.subject.name, item.certificate.not_valid_after_utc))

    def renewable(self, name: str) -> Issued:
        """The certificate of `name` that is good and expires last; without a good one, the last of all.

        Raises:
            NotFoundError: there is none.
            ConfigError: none is good, and one was revoked: its holder must not come back by a routine.
        """
        issued = [item for item in self.issued() if item.subject.name == name]
        if not issued:
            raise NotFoundError(f"no certificate of {name!r} was issued in {self.folder}")
        if good := [item for item in issued if item.is_good]:
            return good[-1]
        if any(item.revoked for item in issued):
            raise ConfigError(
                f"{name!r} was revoked in {self.folder}, and is not renewed; `certs issue` makes a"
                " certificate for another device, best under a name of its own"
            )
        return issued[-1]

    def revoke(self, name: str, serial: int | None = None) -> list[Issued]:
        """Revoke every certificate of `name`, or the one with that serial; returns those that were valid.

        Raises:
            NotFoundError: there is none to revoke.
        """
        with locked(self.folder):
            good = [
                one
                for one in self.issued()
                if one.subject.name == name
                and one.is_good
                and serial in (None, one.certificate.serial_number)
            ]
            if not good:
                raise NotFoundError(f"{name!r} has no certificate that could be revoked in {self.folder}")
            now = utc_now()
            entries = [builders.revocation(one.certificate.serial_number, now) for one in good]
            self._write_crl([*self._revocations(), *entries])
        return good

    def _revocations(self) -> Sequence[x509.RevokedCertificate]:
        path = self.folder / CRL
        try:
            return list(x509.load_pem_x509_crl(read_file(path, f"authority {self.folder}")))
        except ValueError as error:
            raise ConfigError(f"{path} is damaged: {error}") from error

    def _write_crl(self, entries: Iterable[x509.RevokedCertificate]) -> None:
        now = utc_now()
        crl = builders.revocation_list(
            entries, self._certificate, self._key, now - BACKDATED, now + timedelta(days=CRL_DAYS)
        )
        write_public(self.folder / CRL, crl.public_bytes(Encoding.PEM))


def check_passphrase(passphrase: bytes) -> None:
    """Raise ConfigError for one that is too short to protect a key."""
    if len(passphrase.decode(errors="replace")) < MIN_PASSPHRASE:
        raise ConfigError(f"the passphrase has fewer than {MIN_PASSPHRASE} characters")


def key_pem(key: ec.EllipticCurvePrivateKey | Ed25519PrivateKey, passphrase: bytes = b"") -> bytes:
    """A private key as PKCS #8; unencrypted without a passphrase, as a daemon cannot type one."""
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def _validity(days: float) -> tuple[datetime, datetime]:
    now = utc_now()
    return now - BACKDATED, now + timedelta(days=days)
