"""Files that are read again when they change."""

from pathlib import Path

import pytest

from spillover.common.errors import ConfigError
from spillover.common.net.reload import Reloading


@pytest.fixture
def value(tmp_path: Path) -> tuple[Path, Reloading[bytes]]:
    """A file, and its content as long as its group may read it."""
    path = tmp_path / "server.key"

    def read() -> bytes:
        if not path.stat().st_mode & 0o040:
            raise ConfigError(f"cannot read {path}")
        return path.read_bytes()

    path.write_bytes(b"old")
    path.chmod(0o640)
    return path, Reloading((path,), read)


def test_a_file_that_becomes_readable_is_taken_over(value):
    """A key is first written for its owner alone and then given to the group: its bytes change only once."""
    path, reloading = value
    path.chmod(0o600)
    path.write_bytes(b"new")
    assert reloading.get() == b"old"
    path.chmod(0o640)
    assert reloading.get() == b"new"
