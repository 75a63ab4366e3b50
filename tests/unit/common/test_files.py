"""The atomic write: the old file or the new one, and nothing beside it. Reads that end. Modes of secrets."""

import os
from pathlib import Path

import pytest

from spillover.common.files import PRIVATE, exposure, read_regular, write_atomic


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


def test_only_a_regular_file_is_read(tmp_path: Path) -> None:
    """A pipe that nobody writes to, a device and a folder are refused at once, by name."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(OSError, match="not a regular file") as caught:
            read_regular(path, 100)
        assert caught.value.filename == str(path)


def test_a_file_longer_than_its_bound_is_not_read(tmp_path: Path) -> None:
    """Nor one that hides its length: files of /proc say 0."""
    path = tmp_path / "data"
    path.write_bytes(b"x" * 101)
    with pytest.raises(OSError, match="101 bytes, more than 100"):
        read_regular(path, 100)
    assert read_regular(path, 101) == path.read_bytes()
    with pytest.raises(OSError, match="more than 100 bytes"):
        read_regular(Path("/proc/self/smaps"), 100)


@pytest.mark.parametrize(
    ("mode", "says"),
    [
        (0o600, ""),
        (0o640, ""),
        (0o644, "can be read by all users (mode 0644): chmod o-r"),
        (0o660, "can be changed by its group (mode 0660): chmod go-w"),
        (0o666, "can be changed by all users (mode 0666): chmod go-w"),
    ],
)
def test_who_can_use_a_secret_is_said(tmp_path: Path, mode: int, says: str) -> None:
    """A group that may read is how a service without rights gets its key; all others are too many."""
    path = tmp_path / "key"
    path.touch()
    path.chmod(mode)
    assert exposure(path) == says
