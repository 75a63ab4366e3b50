"""The two file formats of `torch.save`: the legacy stream of pickles, and the zip archive of PyTorch >= 1.6.

Both are described by `torch/serialization.py`. Legacy: pickles of a magic number, a protocol version, system
information, the object (its storages as persistent ids) and the list of storage keys; then for each key an
int64 element count and the raw elements. Zip: `<name>/data.pkl`, and one uncompressed `<name>/data/<key>` for
each storage.
"""

import io
import struct
import zipfile
from pathlib import Path
from typing import BinaryIO

import numpy as np

from spillover.common.errors import ModelError
from spillover.lab.models.prepare.checkpoint.tensors import Array, StorageRef, TensorRef, make_array
from spillover.lab.models.prepare.checkpoint.unpickle import load_pickle

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001
# What `zipfile` raises on damage: a bad directory, an unknown version or method, encryption, bad names.
ZIP_ERRORS = (zipfile.BadZipFile, RuntimeError, EOFError, OverflowError, ValueError, struct.error)


def read_checkpoint(path: Path) -> dict[str, Array]:
    """The named tensors of a PyTorch checkpoint: a state dict, or a dict that holds one as `state_dict`.

    Raises:
        ModelError: the file is absent, damaged or truncated, holds something else than tensors, or asks
            for anything to be run. The text names the file.
    """
    try:
        with path.open("rb") as file:
            is_zip = file.read(4) == b"PK\x03\x04"
            file.seek(0)
            return _read_zip(file) if is_zip else _read_legacy(file)
    except (ModelError, OSError, *ZIP_ERRORS) as error:
        raise ModelError(f"{path}: {error}") from error


def _read_legacy(file: BinaryIO) -> dict[str, Array]:
    if load_pickle(file) != LEGACY_MAGIC:
        raise ModelError("not a PyTorch checkpoint: the magic number is missing")
    if load_pickle(file) != LEGACY_PROTOCOL:
        raise ModelError(f"the legacy protocol is not {LEGACY_PROTOCOL}")
    system = load_pickle(file)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ModelError("written on a big-endian machine")
    tensors = _state_dict(load_pickle(file))
    wanted = _storages_of(tensors)
    keys = load_pickle(file)
    if not isinstance(keys, list) or not all(isinstance(key, str) and key in wanted for key in keys):
        raise ModelError("the list of storage keys does not match the tensors")
    storages = {key: _read_legacy_storage(file, wanted[key]) for key in keys}
    return _make_arrays(tensors, storages)


def _read_legacy_storage(file: BinaryIO, ref: StorageRef) -> Array:
    header = file.read(8)
    if len(header) != 8:
        raise ModelError(f"truncated before storage {ref.key!r}")
    (count,) = struct.unpack("<q", header)
    if count != ref.length:
        raise ModelError(f"storage {ref.key!r} has {count} elements, not {ref.length} as announced")
    if ref.size_bytes > _bytes_left(file):
        raise ModelError(f"truncated: storage {ref.key!r} needs {ref.size_bytes} bytes more than are left")
    return np.frombuffer(file.read(ref.size_bytes), ref.dtype)


def _bytes_left(file: BinaryIO) -> int:
    here = file.tell()
    end = file.seek(0, io.SEEK_END)
    file.seek(here)
    return end - here


def _read_zip(file: BinaryIO) -> dict[str, Array]:
    with zipfile.ZipFile(file) as archive:
        entries = {info.filename: info for info in archive.infolist()}
        pickles = [name for name in entries if name.rpartition("/")[2] == "data.pkl"]
        if len(pickles) != 1:
            raise ModelError("not a PyTorch checkpoint: the archive has no data.pkl, or several")
        folder = pickles[0].removesuffix("data.pkl")
        if (order := entries.get(f"{folder}byteorder")) and _read_entry(archive, order) != b"little":
            raise ModelError("written on a big-endian machine")
        tensors = _state_dict(load_pickle(io.BytesIO(_read_entry(archive, entries[pickles[0]]))))
        wanted = _storages_of(tensors)
        if sum(ref.size_bytes for ref in wanted.values()) > file.seek(0, io.SEEK_END):
            raise ModelError("the tensors need more bytes than the file has")
        storages = {
            key: _read_zip_storage(archive, entries.get(f"{folder}data/{key}"), ref)
            for key, ref in wanted.items()
        }
        return _make_arrays(tensors, storages)


def _read_zip_storage(archive: zipfile.ZipFile, entry: zipfile.ZipInfo | None, ref: StorageRef) -> Array:
    if entry is None:
        raise ModelError(f"storage {ref.key!r} is not in the archive")
    if entry.file_size != ref.size_bytes:
        raise ModelError(
            f"storage {ref.key!r} has {entry.file_size} bytes where {ref.size_bytes} were announced"
        )
    return np.frombuffer(_read_entry(archive, entry), ref.dtype)


def _read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """One entry's bytes. PyTorch compresses nothing: a compressed entry is a bomb or a mistake."""
    if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
        raise ModelError(f"archive entry {entry.filename} is compressed, which PyTorch never does")
    data = archive.read(entry)
    if len(data) != entry.file_size:
        raise ModelError(f"archive entry {entry.filename} is truncated")
    return data


def _state_dict(content: object) -> dict[str, TensorRef]:
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict):
        raise ModelError("the checkpoint is not a state dict")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, TensorRef):
            raise ModelError(f"the checkpoint is not a state dict: {name!r:.80} is no tensor")
    return content


def _storages_of(tensors: dict[str, TensorRef]) -> dict[str, StorageRef]:
    return {tensor.storage.key: tensor.storage for tensor in tensors.values()}


def _make_arrays(tensors: dict[str, TensorRef], storages: dict[str, Array]) -> dict[str, Array]:
    return {name: make_array(name, tensor, storages) for name, tensor in tensors.items()}
