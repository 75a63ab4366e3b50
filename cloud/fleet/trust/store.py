"""What the server offers to devices: a folder of metadata, bundles and patches, and the online signatures.

    metadata/1.root.json ...  1.targets.json ...  1.snapshot.json ...  timestamp.json
    targets/SHA256            bundles and patches
    incoming/                 what is being uploaded

`timestamp.json` is written last, so that a reader finds an old state or a new one, whole.
"""

import os
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from securesystemslib.signer import CryptoSigner

from spillover.cloud.fleet.trust import metadata
from spillover.cloud.fleet.trust.metadata import LIFE, ONLINE, ROOT, SNAPSHOT, TARGETS, TIMESTAMP
from spillover.common.bundle.target import MOST_METADATA_BYTES, Target
from spillover.common.errors import ConfigError, InvalidInputError, NotFoundError
from spillover.common.files import read_regular, sync_folder, write_atomic
from spillover.common.model.manifest import file_sha256

NAMES = re.compile(r"([1-9][0-9]{0,8}\.(root|targets|snapshot)|timestamp)\.json")
"""Names of metadata that may be asked for."""
_DIGEST = re.compile(r"[0-9a-f]{64}")


class TargetStore:
    """The signed bundles of one fleet. For one thread at a time; devices' reads need no lock.

    `online` gives the signer that the server has; `now` the time, aware.

    Raises:
        ConfigError: the folder cannot be made or read.
    """

    def __init__(self, folder: Path, online: Callable[[], CryptoSigner], now: Callable[[], datetime]) -> None:
        self._folder = folder
        self._online = online
        self._now = now
        try:
            for name in ("metadata", "targets", "incoming"):
                (folder / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"fleet.folder: cannot make {folder}: {error.strerror}") from error
        self._targets: dict[str, Target] = {}
        if self._version(TARGETS):
            self._targets = metadata.listed(self._newest(TARGETS))

    @property
    def targets(self) -> Mapping[str, Target]:
        """The bundles that devices may run, by digest."""
        return self._targets

    @property
    def versions(self) -> tuple[int, int]:
        """Of the newest root and targets metadata; 0: there is none."""
        return self._version(ROOT), self._version(TARGETS)

    def metadata(self, name: str) -> bytes:
        """Metadata by its name, such as `timestamp.json`. Raises NotFoundError."""
        if NAMES.fullmatch(name):
            try:
                return read_regular(self._folder / "metadata" / name, MOST_METADATA_BYTES)
            except FileNotFoundError:
                pass
        raise NotFoundError(f"there is no metadata {name!r} here")

    def path_of(self, sha256: str) -> Path:
        """The file of a bundle or patch. Raises NotFoundError."""
        path = self._folder / "targets" / sha256
        if not _DIGEST.fullmatch(sha256) or not path.is_file():
            raise NotFoundError(f"there is no target {sha256!r} here")
        return path

    def incoming(self, name: str) -> Path:
        """Where an upload of this name is written; it goes with `keep`, or by `unlink`."""
        return self._folder / "incoming" / name

    def keep(self, path: Path, sha256: str) -> None:
        """Take an uploaded file over as that target.

        Raises:
            InvalidInputError: it has another digest; it is removed.
        """
        if file_sha256(path) != sha256:
            path.unlink()
            raise InvalidInputError(f"target {sha256}: what was sent has another digest")
        with path.open("rb") as file:
            os.fsync(file.fileno())
        path.replace(self._folder / "targets" / sha256)
        sync_folder(self._folder / "targets")

    def accept_root(self, data: bytes) -> None:
        """Take over a root that follows the one that is here; the first one is believed.

        Raises:
            InvalidInputError: it does not follow, or the key that the server has may not sign by it.
        """
        current = self._newest(ROOT) if self._version(ROOT) else None
        version = metadata.verify_root(current, data)
        if not metadata.signs_for(data, ONLINE, self._online()):
            raise InvalidInputError(
                f"root metadata {version}: does not know the online key of this server (fleet.key): copy the "
                "new online.pem here first"
            )
        self._write(f"{version}.{ROOT}.json", data)
        if self._version(TARGETS):
            self.renew()

    def accept_targets(self, data: bytes) -> None:
        """Take over targets metadata, once all its files are here, and say that it is the newest.

        Raises:
            InvalidInputError: its signature or version is wrong, or a file of it is missing.
        """
        if not self._version(ROOT):
            raise InvalidInputError("targets metadata: there is no root here yet; send that first")
        version = metadata.verify_targets(self._newest(ROOT), data)
        if version <= self._version(TARGETS):
            raise InvalidInputError(
                f"targets metadata: version {version} is not newer than {self._version(TARGETS)} here; take "
                "that over first"
            )
        found = metadata.listed(data)
        for target in found.values():
            for sha256, size_bytes in target.files.items():
                path = self._folder / "targets" / sha256
                if not path.is_file() or path.stat().st_size != size_bytes:
                    raise InvalidInputError(
                        f"target {sha256} of {target.note.bundle.name}: its file is missing"
                    )
        self._write(f"{version}.{TARGETS}.json", data)
        self._targets = found
        self.renew()

    def renew(self) -> None:
        """Say anew what is newest. Raises ConfigError: the online key cannot be read."""
        before = self._version(SNAPSHOT), self._timestamp_version()
        versions = before[0] + 1, before[1] + 1
        snapshot, timestamp = metadata.newest(self._newest(TARGETS), versions, self._online(), self._now())
        self._write(f"{versions[0]}.{SNAPSHOT}.json", snapshot)
        self._write(f"{TIMESTAMP}.json", timestamp)

    def renew_if_due(self) -> bool:
        """Say so anew where that holds for less than half of its life; tell whether it was due."""
        if not self._version(TARGETS):
            return False
        left = metadata.expires_of(self.metadata(f"{TIMESTAMP}.json")) - self._now()
        if left > LIFE[TIMESTAMP] / 2:
            return False
        self.renew()
        return True

    def collect(self) -> list[str]:
        """Remove the files that no target needs any more; their digests."""
        needed = {sha256 for target in self._targets.values() for sha256 in target.files}
        gone = [path for path in (self._folder / "targets").iterdir() if path.name not in needed]
        for path in gone:
            path.unlink()
        return [path.name for path in gone]

    def _timestamp_version(self) -> int:
        try:
            return metadata.version_of(self.metadata(f"{TIMESTAMP}.json"))
        except NotFoundError:
            return 0

    def _version(self, role: str) -> int:
        names = (self._folder / "metadata").glob(f"*.{role}.json")
        return max((int(path.name.split(".")[0]) for path in names), default=0)

    def _newest(self, role: str) -> bytes:
        return self.metadata(f"{self._version(role)}.{role}.json")

    def _write(self, name: str, data: bytes) -> None:
        write_atomic(self._folder / "metadata" / name, data)
