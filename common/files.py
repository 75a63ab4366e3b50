"""The one atomic write: replaces a file completely or not at all, and syncs it to disk before returning."""

import os
import secrets
from pathlib import Path

PRIVATE, PUBLIC = 0o600, 0o644
"""Modes of files that only their owner may read, and of files that everybody may read."""


def write_atomic(path: Path, data: bytes, *, mode: int = PUBLIC) -> None:
    """Replace `path` by `data`; readers see the old file or the new one, never a part.

    The file has `mode` (less the umask) from its first byte on. File and folder are synced, so that the new
    content survives a power cut (rename(2), fsync(2)).

    Raises:
        OSError: it cannot be written; the old file is as it was, and nothing is left beside it.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the entries of a folder survive a power cut. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
