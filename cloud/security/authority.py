"""A private certificate authority in a folder: what it has issued, and what it has revoked.

    ca.crt      what the other side is given to check certificates with
    ca.key      the one secret of the folder; with it any identity can be forged
    crl.pem     the revocation list (RFC 5280)
    issued/     a copy of every certificate, by serial number

Certificates are backdated by a year. The start date protects nothing here, and a computer without a battery
clock, such as a Raspberry Pi, boots with a date in the past and would refuse a certificate of today.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from spillover.cloud.security import builders
from spillover.cloud.security.builders import Subject
from spillover.cloud.security.files import locked, make_folder, write_private, write_public
from spillover.common.errors import ConfigError, NotFoundError
from spillover.common.net.reload import read_file
from spillover.common.net.tls import load_certificates, load_key_pair, utc_now

CA_CERTIFICATE, CA_KEY, CRL, ISSUED = "ca.crt", "ca.key", "crl.pem", "issued"
CA_DAYS = 3650
CRL_DAYS = 3650
"""A list is replaced when something is revoked, not by the calendar, so it stays valid as long as the CA."""
BACKDATED = timedelta(days=365)


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
    """The certificate authority of one folder.

    Raises:
        ConfigError: the folder has no authority, or its files are damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not (folder / CA_KEY).exists():
            raise ConfigError(f"no certificate authority in {folder}; `spillover cloud certs init` makes one")
        pair = load_key_pair(folder / CA_CERTIFICATE, folder / CA_KEY, f"authority {folder}")
        self._certificate = x509.load_pem_x509_certificate(pair.certificate_pem)
        self._key = builders.load_ec_key(pair.key_pem, folder / CA_KEY)

    @classmethod
    def create(cls, folder: Path, name: str) -> "Authority":
        """Make an authority called `name` in a new folder.

        Raises ConfigError if the folder has one already.
        """
        make_folder(folder)
        with locked(folder):
            if (folder / CA_KEY).exists():
                raise ConfigError(f"{folder} has a certificate authority; it is not overwritten")
            key = ec.generate_private_key(ec.SECP256R1())
            start, end = _validity(CA_DAYS)
            certificate = builders.ca_certificate(name, key, start, end)
            write_public(folder / CA_CERTIFICATE, certificate.public_bytes(Encoding.PEM))
            write_private(folder / CA_KEY, key_pem(key))
            authority = cls(folder)
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

    def newest(self, name: str) -> Issued:
        """The certificate of `name` that expires last. Raises NotFoundError if there is none."""
        issued = [item for item in self.issued() if item.subject.name == name]
        if not issued:
            raise NotFoundError(f"no certificate of {name!r} was issued in {self.folder}")
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


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key as unencrypted PKCS #8: a daemon cannot type a password."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _validity(days: float) -> tuple[datetime, datetime]:
    now = utc_now()
    return now - BACKDATED, now + timedelta(days=days)
