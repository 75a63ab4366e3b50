"""The file of a bundle: an uncompressed tar of a model folder, of which `bundle.json` comes first.

The same folder gives the same bytes, so a bundle is known by its SHA-256, and a patch from one to the next is
small. Uncompressed, because a patch between compressed files is as large as the file.
"""

import hashlib
import os
import re
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import IO, Annotated, BinaryIO

import msgspec

from spillover.common.config.kinds import DIGEST, name_of_at_most
from spillover.common.errors import ModelError
from spillover.common.files import open_regular, sync_folder
from spillover.common.model.manifest import MANIFEST_FILE, MODEL_FILE, ModelFolder, open_model_folder

FORMAT = 1
BUNDLE_FILE = "bundle.json"
GOLDEN_FOLDER = "golden"
GAIN_FILE = "gain.json"
"""What `spillover lab fit` has learned for this model."""
MOST_BYTES = 1 << 30
_MOST_DESCRIPTION_BYTES = 1 << 20
_MOST_FILES = 256
_CHUNK_BYTES = 1 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}(/[A-Za-z0-9][A-Za-z0-9._-]{0,63}){0,2}")

SoftwareVersion = Annotated[
    str, msgspec.Meta(pattern=r"^(\d{1,6}(\.\d{1,6}){0,3})?$", description="numbers and dots, as in 0.2")
]


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of a bundle."""

    sha256: Annotated[str, DIGEST]
    size_bytes: Annotated[int, msgspec.Meta(ge=0, le=MOST_BYTES)]


class BundleManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The content of `bundle.json`: what is inside, so that a device can refuse it before it unpacks it."""

    format: Annotated[int, msgspec.Meta(ge=FORMAT, le=FORMAT)] = FORMAT
    name: Annotated[str, name_of_at_most(128)]
    version: Annotated[str, name_of_at_most(128)]
    task: str
    labels_sha256: Annotated[str, DIGEST]
    """Of the class names in their order, one a line."""
    min_software: SoftwareVersion = ""
    """The oldest version of this software that runs it; empty: any."""
    runtimes: tuple[str, ...] = ("onnxruntime",)
    """Of these one is enough."""
    files: dict[str, FileEntry]
    """By path inside the folder, `/` between its parts."""


class Patch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A patch (bsdiff4) that makes a bundle out of another one."""

    sha256: Annotated[str, DIGEST]
    size_bytes: Annotated[int, msgspec.Meta(ge=0, le=MOST_BYTES)]


class SignedNote(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is signed of a bundle beside its digest and size: `custom` of a TUF target."""

    bundle: BundleManifest
    patches: Annotated[dict[Annotated[str, DIGEST], Patch], msgspec.Meta(max_length=64)]
    """By the digest of the bundle that a device has."""


def labels_digest(labels: tuple[str, ...]) -> str:
    """Hex SHA-256 of class names in their order."""
    return hashlib.sha256("".join(f"{label}\n" for label in labels).encode()).hexdigest()


def pack(
    folder: ModelFolder, out: BinaryIO, extra: Mapping[str, Path], *, min_software: str = ""
) -> BundleManifest:
    """Write a model folder as a bundle.

    `extra` are files from elsewhere by their path in the bundle, such as `gain.json` and golden pictures.

    Raises:
        ModelError: a file cannot be read, has a name that no bundle takes, or all of them are too large.
    """
    sources = dict(sorted((_files_of(folder) | dict(extra)).items()))
    manifest = BundleManifest(
        name=folder.manifest.name,
        version=folder.manifest.version,
        task=folder.manifest.task,
        labels_sha256=labels_digest(folder.labels),
        min_software=min_software,
        files={name: _entry(name, path) for name, path in sources.items()},
    )
    _check_size(manifest)
    with tarfile.open(fileobj=out, mode="w:", format=tarfile.USTAR_FORMAT) as tar:
        described = msgspec.json.format(msgspec.json.encode(manifest)) + b"\n"
        tar.addfile(_head(BUNDLE_FILE, len(described)), BytesIO(described))
        for name, path in sources.items():
            with _opened(path) as file:
                tar.addfile(_head(name, manifest.files[name].size_bytes), file)
    return manifest


def read_manifest(bundle: Path) -> BundleManifest:
    """What a bundle says it is; its files are not looked at. Raises ModelError."""
    with _reading(bundle) as tar:
        return _described(tar)


def unpack(bundle: Path, into: Path) -> ModelFolder:
    """Write the files of a bundle into the new folder `into`, and open it as a model folder.

    All of it is synced when this returns. Nothing but regular files that `bundle.json` names is written.

    Raises:
        ModelError: the file is no bundle, is damaged, or holds something else. What was written stays.
        OSError: `into` exists, or cannot be written.
    """
    into.mkdir()
    with _reading(bundle) as tar:
        manifest = _described(tar)
        missing = dict(manifest.files)
        while (head := tar.next()) is not None:
            entry = missing.pop(head.name, None)
            if entry is None or not head.isreg() or head.size != entry.size_bytes:
                raise _DamagedError(f"{head.name!r} is not as {BUNDLE_FILE} says")
            path = into / head.name
            path.parent.mkdir(parents=True, exist_ok=True)
            if _copy(_content(tar, head), path) != entry.sha256:
                raise _DamagedError(f"{head.name} has another digest than {BUNDLE_FILE} says")
        if missing:
            raise _DamagedError(f"{min(missing)} is missing")
    for folder in [*sorted({path.parent for path in into.rglob("*")}, reverse=True), into.parent]:
        sync_folder(folder)
    unpacked = open_model_folder(into)
    said = (manifest.name, manifest.version, manifest.task, manifest.labels_sha256)
    found = unpacked.manifest
    if said != (found.name, found.version, found.task, labels_digest(unpacked.labels)):
        raise ModelError(f"bundle {bundle}: {MANIFEST_FILE} describes another model than {BUNDLE_FILE}")
    return unpacked


def _files_of(folder: ModelFolder, prefix: str = "") -> dict[str, Path]:
    """The files that belong to a model, by their path inside its folder."""
    manifest = folder.manifest
    own = [MANIFEST_FILE, manifest.labels, manifest.output.anchors, "" if folder.members else MODEL_FILE]
    found = {prefix + name: folder.path / name for name in own if name}
    for name, member in zip(manifest.members, folder.members, strict=True):
        found |= _files_of(member, f"{prefix}{name}/")
    return found


def _entry(name: str, path: Path) -> FileEntry:
    if not _NAME.fullmatch(name) or name == BUNDLE_FILE:
        raise ModelError(f"{path}: a bundle takes no file of the name {name!r}: rename it")
    with _opened(path) as file:
        return FileEntry(hashlib.file_digest(file, "sha256").hexdigest(), os.fstat(file.fileno()).st_size)


def _check_size(manifest: BundleManifest) -> None:
    """Raises ModelError where a device would refuse the bundle for its size."""
    total = sum(entry.size_bytes for entry in manifest.files.values())
    if len(manifest.files) > _MOST_FILES or total > MOST_BYTES:
        raise ModelError(
            f"model {manifest.name}: {len(manifest.files)} files of {total} bytes; a bundle takes "
            f"{_MOST_FILES} files of {MOST_BYTES} bytes"
        )


def _head(name: str, size_bytes: int) -> tarfile.TarInfo:
    """The head of a file, without time and owner."""
    head = tarfile.TarInfo(name)
    head.size, head.mode = size_bytes, 0o644
    return head


class _DamagedError(Exception):
    """A file that is no bundle."""


@contextmanager
def _reading(bundle: Path) -> Iterator[tarfile.TarFile]:
    """The tar of a bundle. Raises ModelError where it is none, also from within."""
    with _opened(bundle) as file:
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                yield tar
        except (tarfile.TarError, _DamagedError) as error:
            raise ModelError(f"bundle {bundle}: {error}") from error


@contextmanager
def _opened(path: Path) -> Iterator[BufferedReader]:
    try:
        with open_regular(path, MOST_BYTES + (MOST_BYTES >> 4)) as file:
            yield file
    except OSError as error:
        if error.filename != str(path):
            raise
        raise ModelError(f"{path}: {error.strerror}") from error


def _described(tar: tarfile.TarFile) -> BundleManifest:
    """What `bundle.json` says, which must come first."""
    head = tar.next()
    if head is None or head.name != BUNDLE_FILE or not head.isreg():
        raise _DamagedError(f"does not begin with {BUNDLE_FILE}")
    if head.size > _MOST_DESCRIPTION_BYTES:
        raise _DamagedError(f"its {BUNDLE_FILE} has {head.size} bytes")
    try:
        manifest = msgspec.json.decode(_content(tar, head).read(), type=BundleManifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _DamagedError(f"{BUNDLE_FILE}: {error}") from error
    if strange := [name for name in manifest.files if not _NAME.fullmatch(name) or name == BUNDLE_FILE]:
        raise _DamagedError(f"{strange[0]!r} is no name of a file in a bundle")
    _check_size(manifest)
    return manifest


def _content(tar: tarfile.TarFile, head: tarfile.TarInfo) -> IO[bytes]:
    content = tar.extractfile(head)
    assert content is not None  # noqa: S101 - of a regular file it never is
    return content


def _copy(content: IO[bytes], path: Path) -> str:
    """Write a file and sync it; its hex SHA-256."""
    digest = hashlib.sha256()
    with path.open("xb") as file:
        while chunk := content.read(_CHUNK_BYTES):
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()
