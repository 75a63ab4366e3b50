"""Files that only their owner may read, replaced whole or not at all."""

import os
import secrets
from pathlib import Path

PRIVATE = 0o600
PUBLIC = 0o644


def write_private(path: Path, data: bytes) -> None:
    """Write a secret: mode 0600 from its first byte on. Readers see the old file or the new, never a part."""
    _write(path, data, PRIVATE)


def write_public(path: Path, data: bytes) -> None:
    """Write what everybody may read, as atomically."""
    _write(path, data, PUBLIC)


def _write(path: Path, data: bytes, mode: int) -> None:
    partial = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)  # a new certificate must not be lost after its old one was thrown away
    finally:
        os.close(folder)
