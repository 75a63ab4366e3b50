"""A lock on a file: one process at a time, and none that outlives its process."""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from spillover.common.errors import InUseError
from spillover.common.files import lock_file
from spillover.common.mounts import demand_folder
from tests.support.rights import without_rights

_HOLDER = """
import subprocess, sys, time
from pathlib import Path
from spillover.common.files import lock_file
from tests.support.rights import without_rights
lock = lock_file(Path(sys.argv[1]), "key")
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], stdout=subprocess.DEVNULL)
print(child.pid, flush=True)
time.sleep(600)
"""


def test_a_lock_is_for_one(tmp_path: Path) -> None:
    """The second is told the key, the path and the process; after `close` another may have it."""
    lock = lock_file(tmp_path / "state", "the.key")
    with pytest.raises(InUseError, match=rf"the\.key: {tmp_path}/state is in use by process {os.getpid()}"):
        lock_file(tmp_path / "state", "the.key")
    lock_file(tmp_path / "another", "the.key").close()
    lock.close()
    lock_file(tmp_path / "state", "the.key").close()


def test_a_lock_ends_with_its_process_whatever_this_has_started(tmp_path: Path) -> None:
    """Kill -9 of the holder, whose child lives on: the lock is free."""
    path = tmp_path / "state"
    holder = subprocess.Popen([sys.executable, "-c", _HOLDER, str(path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    child = int(holder.stdout.readline())
    try:
        with pytest.raises(InUseError, match=f"process {holder.pid}"):
            lock_file(path, "key")
        holder.kill()
        holder.communicate()
        os.kill(child, 0)  # it lives
        lock_file(path, "key").close()
    finally:
        os.kill(child, 9)


def test_a_lock_is_renewed_where_its_folder_came_anew(tmp_path: Path) -> None:
    """As after a disk was exchanged: what is at the path now is locked; the same place is locked once."""
    folder = tmp_path / "disk"
    folder.mkdir()
    lock = lock_file(folder / "state", "key")
    lock.renew()
    folder.rename(tmp_path / "old")
    with pytest.raises(FileNotFoundError):
        lock.renew()
    folder.mkdir()
    lock.renew()
    with pytest.raises(InUseError):
        lock_file(folder / "state", "key")
    lock.close()


def test_a_folder_that_is_not_there_is_no_lock(tmp_path: Path) -> None:
    """An error of the system, which may pass; nothing is made."""
    with pytest.raises(FileNotFoundError):
        lock_file(tmp_path / "absent" / "state", "key")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("left_by_another", [False, True])
def test_a_file_in_a_folder_of_another_user_is_locked_too(left_by_another: bool) -> None:
    """As one in /var/log that was made for the daemon: nothing can be made beside it."""
    with TemporaryDirectory() as name:
        folder, path = Path(name), Path(name) / "state"
        path.write_bytes(b"content")
        path.chmod(0o666)
        if left_by_another:
            lock_file(path, "key").close()
        folder.chmod(0o555)
        with without_rights():
            lock = lock_file(path, "key")
            with pytest.raises(InUseError):
                lock_file(path, "key")
            lock.close()
        folder.chmod(0o755)
        assert path.read_bytes() == b"content"


def test_a_loop_of_links_is_an_error_of_the_system(tmp_path: Path) -> None:
    """As any path that leads nowhere: a disk may be mounted there later."""
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    for path in (tmp_path / "a", tmp_path / "a" / "state"):
        with pytest.raises(OSError, match=r"oop|levels of symbolic"):
            lock_file(path, "key")
        with pytest.raises(OSError, match=r"oop|not there"):
            demand_folder(path / "below")
