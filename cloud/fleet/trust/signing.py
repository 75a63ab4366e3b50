"""The folder on an operator's PC from which models are signed: three keys, and the metadata that they signed.

    root.pem        signs who may sign what; needed to begin, and to replace a key. Encrypted
    targets.pem     signs which bundles devices may run. Encrypted
    online.pem      signs what is newest; the server gets a copy, so it has no passphrase
    metadata/       1.root.json, 2.root.json, ..., and the newest targets.json

Root and targets key never leave this folder. To lose both is to enrol every device anew.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner

from spillover.cloud.fleet.trust import metadata
from spillover.cloud.fleet.trust.metadata import KEYS, ONLINE, ROOT, TARGETS
from spillover.cloud.security.authority import check_passphrase, key_pem
from spillover.cloud.security.builders import AskPassphrase, no_passphrase
from spillover.common.bundle.target import Target
from spillover.common.errors import ConfigError
from spillover.common.files import set_aside
from spillover.common.net.reload import read_file
from spillover.common.security.files import locked, make_folder, write_private, write_public

METADATA = "metadata"
TARGETS_FILE = "targets.json"


class SigningFolder:
    """Keys and metadata of one fleet.

    Raises:
        ConfigError: there are none in this folder.
    """

    def __init__(self, folder: Path, passphrase: AskPassphrase = no_passphrase) -> None:
        self.folder = folder
        self._passphrase = passphrase
        if not self._roots():
            raise ConfigError(f"no keys in {folder}; `spillover fleet keys init` makes them")

    @classmethod
    def create(cls, folder: Path, passphrase: bytes, now: datetime) -> "SigningFolder":
        """Make the keys and the first root. Raises ConfigError, also where there are keys."""
        check_passphrase(passphrase)
        make_folder(folder)
        make_folder(folder / METADATA)
        with locked(folder):
            if any(_key_path(folder, key).exists() for key in KEYS):
                raise ConfigError(f"{folder} has keys; they are not overwritten")
            private = {key: Ed25519PrivateKey.generate() for key in KEYS}
            for key, one in private.items():
                write_private(_key_path(folder, key), key_pem(one, b"" if key == ONLINE else passphrase))
            signers = {key: CryptoSigner(one) for key, one in private.items()}
            write_public(folder / METADATA / "1.root.json", metadata.first_root(signers, now))
        return cls(folder, lambda: passphrase)

    @property
    def root(self) -> bytes:
        """The newest root metadata."""
        return self._read(self._roots()[-1])

    @property
    def roots(self) -> list[bytes]:
        """All root metadata, the first one first."""
        return [self._read(path) for path in self._roots()]

    @property
    def targets(self) -> bytes | None:
        """The newest targets metadata; None before the first bundle."""
        path = self.folder / METADATA / TARGETS_FILE
        return self._read(path) if path.exists() else None

    def bundles(self) -> Mapping[str, Target]:
        """The bundles that are signed now, by digest."""
        return metadata.listed(self.targets) if self.targets else {}

    def take(self, roots: Iterable[bytes], targets: bytes | None) -> None:
        """Go on from what the server has, where another operator has signed since.

        Raises:
            InvalidInputError: it does not follow from the root that is here.
        """
        with locked(self.folder):
            for data in roots:
                if metadata.version_of(data) <= metadata.version_of(self.root):
                    continue
                version = metadata.verify_root(self.root, data)
                write_public(self.folder / METADATA / f"{version}.root.json", data)
            if targets is None:
                return
            version = metadata.verify_targets(self.root, targets)
            if self.targets is None or version > metadata.version_of(self.targets):
                write_public(self.folder / METADATA / TARGETS_FILE, targets)

    def sign(self, targets: Iterable[Target], now: datetime) -> bytes:
        """Targets metadata of these bundles and no other; it is kept here as the newest.

        Raises:
            ConfigError: the passphrase is wrong, or the root knows another targets key.
        """
        signer = self._signer(TARGETS)
        if not metadata.signs_for(self.root, TARGETS, signer):
            raise ConfigError(
                f"{_key_path(self.folder, TARGETS)} may not sign any more: the root knows another key"
            )
        with locked(self.folder):
            data = metadata.targets_of(self.targets, targets, signer, now)
            write_public(self.folder / METADATA / TARGETS_FILE, data)
        return data

    def rotate(self, key: str, now: datetime) -> bytes:
        """Replace one of `KEYS`; the new root metadata. The old key's file is set aside.

        Targets that were signed are signed anew by a new targets key.

        Raises:
            ConfigError: the passphrase is wrong, or a file cannot be written.
        """
        root_signers = [self._signer(ROOT)]
        fresh = Ed25519PrivateKey.generate()
        if key == ROOT:
            root_signers.append(CryptoSigner(fresh))
        data = metadata.next_root(self.root, key, CryptoSigner(fresh), root_signers, now)
        path = _key_path(self.folder, key)
        with locked(self.folder):
            try:
                set_aside(path)
            except OSError as error:
                raise ConfigError(f"cannot set {path} aside: {error.strerror}") from error
            write_private(path, key_pem(fresh, b"" if key == ONLINE else self._passphrase()))
            write_public(self.folder / METADATA / f"{metadata.version_of(data)}.root.json", data)
        if key == TARGETS and self.targets:
            self.sign(self.bundles().values(), now)
        return data

    def _signer(self, key: str) -> CryptoSigner:
        return read_signer(_key_path(self.folder, key), self._passphrase)

    def _roots(self) -> list[Path]:
        found = {int(path.name.split(".")[0]): path for path in self.folder.glob(f"{METADATA}/*.root.json")}
        return [found[version] for version in sorted(found)]

    def _read(self, path: Path) -> bytes:
        return read_file(path, f"keys {self.folder}")


def read_signer(path: Path, passphrase: AskPassphrase = no_passphrase) -> CryptoSigner:
    """The signer of a key file; `passphrase` is asked where it is encrypted.

    Raises:
        ConfigError: there is no such file, the passphrase is wrong, or it is no Ed25519 key.
    """
    data = read_file(path, "key")
    try:
        key = load_pem_private_key(data, passphrase() if b"ENCRYPTED" in data else None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(
            f"{path}: cannot be read: a wrong passphrase, or no key in PEM ({error})"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{path}: is no Ed25519 key")
    return CryptoSigner(key)


def _key_path(folder: Path, key: str) -> Path:
    return folder / f"{key}.pem"
