"""The atomic write: the old file or the new one, and nothing beside it."""

import os
from pathlib import Path

import pytest

from spillover.common.files import PRIVATE, write_atomic


def test_a_file_is_replaced_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    """The second write wins; the folder holds the file alone."""
    path = tmp_path / "state"
    write_atomic(path, b"old")
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_private_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    """Whatever mode the file had before."""
    path = tmp_path / "key"
    write_atomic(path, b"public")
    write_atomic(path, b"secret", mode=PRIVATE)
    assert path.stat().st_mode & 0o777 == PRIVATE


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk refuses to sync: the old content stays, and no part of the new is left."""
    path = tmp_path / "state"
    write_atomic(path, b"old")

    def refuse(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
