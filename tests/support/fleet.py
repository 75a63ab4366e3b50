"""An operator's PC, a server and a device in folders, on a clock of their own: signed models, no network."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import bsdiff4

from spillover.cloud.fleet.trust.signing import SigningFolder, read_signer
from spillover.cloud.fleet.trust.store import TargetStore
from spillover.common.bundle.format import Patch, SignedNote, pack, read_manifest
from spillover.common.bundle.target import Target
from spillover.common.errors import NotFoundError
from spillover.common.model.manifest import file_sha256, open_model_folder
from spillover.edge.models.update.trust import FIRST_ROOT, Trust
from tests.support.models import colour_classifier

NOW = datetime(2030, 1, 1, tzinfo=UTC)
PASSPHRASE = b"correct horse battery staple"


class Fleet:
    """An operator's PC, a server, and a device, with a clock of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = NOW
        self.signing = SigningFolder.create(folder / "keys", PASSPHRASE, NOW)
        (folder / "server").mkdir()
        self.copy_online_key()
        self.store = TargetStore(
            folder / "server", lambda: read_signer(folder / "server" / "online.pem"), lambda: self.now
        )
        self.store.accept_root(self.signing.root)
        self.device = folder / "device"
        self.device.mkdir()
        (self.device / FIRST_ROOT).write_bytes(self.signing.root)

    def copy_online_key(self) -> None:
        """As an operator does once, and after each rotation of it."""
        (self.folder / "server" / "online.pem").write_bytes(
            (self.folder / "keys" / "online.pem").read_bytes()
        )

    def publish(
        self,
        version: str,
        *others: Target,
        folder: Path | None = None,
        extra: Mapping[str, Path] | None = None,
        patch_from: Target | None = None,
        min_software: str = "",
    ) -> Target:
        """Sign and upload a model, by default one that tells colours, beside the others."""
        path = self.store.incoming("upload")
        folder = folder or colour_classifier(self.folder / "models", version=version)
        with path.open("wb") as file:
            pack(open_model_folder(folder), file, extra or {}, min_software=min_software)
        patches = {}
        if patch_from:
            old = self.store.path_of(patch_from.sha256).read_bytes()
            patches[patch_from.sha256] = self._patch(bsdiff4.diff(old, path.read_bytes()))
        target = Target(file_sha256(path), path.stat().st_size, SignedNote(read_manifest(path), patches))
        self.store.keep(path, target.sha256)
        self.store.accept_targets(self.signing.sign([target, *others], self.now))
        return target

    def _patch(self, data: bytes) -> Patch:
        path = self.store.incoming("patch")
        path.write_bytes(data)
        patch = Patch(file_sha256(path), len(data))
        self.store.keep(path, patch.sha256)
        return patch

    def content(self, sha256: str, offset: int, chunk_bytes: int = 1000) -> Iterator[bytes]:
        """A target from an offset on, as a device fetches it."""
        data = self.store.path_of(sha256).read_bytes()
        for begin in range(offset, len(data), chunk_bytes):
            yield data[begin : begin + chunk_bytes]

    def fetch(self, name: str) -> bytes | None:
        """As a device fetches it."""
        try:
            return self.store.metadata(name)
        except NotFoundError:
            return None

    def forget(self) -> None:
        """Have the device know its first root alone."""
        shutil.rmtree(self.device / "accepted", ignore_errors=True)

    def trust(self, fetch: Callable[[str], bytes | None] | None = None, at: datetime | None = None) -> Trust:
        """What the device accepts now."""
        return Trust(self.device, fetch or self.fetch, (at or self.now).timestamp())
