"""The folder of evidence: whole files under the names of their frames, within bounds of bytes and age."""

import errno
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from spillover.common.errors import ConfigError
from spillover.common.files import FileLock, lock_file, write_atomic
from spillover.common.log import get_logger
from spillover.common.mounts import demand_folder, may_pass
from spillover.edge.telemetry.collectors import EvidenceState

_log = get_logger("evidence")

_OURS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*-[0-9a-f]{12}-\d+(\.boxes\.jpg|\.jpg|\.mp4)")
"""Names of frames (`FrameClock`) with an ending: nothing else in the folder is counted or deleted."""
_PARTIAL = re.compile(rf"\.{_OURS.pattern}\.[0-9a-f]{{12}}")
"""What `write_atomic` leaves behind when it is killed."""
_MODE = 0o640
"""Pictures of people are for the daemon's user and its group."""
RESERVE_BYTES, RESERVE_SHARE = 32_000_000, 0.05
"""So much of the disk is left to results and the spool, or so much of a small one."""


@dataclass(frozen=True, slots=True)
class _File:
    size: int
    at_unix_s: float


class Store:
    """Keeps files that are whole or not there. Thread-safe; all but `in` and `state` may wait for the disk.

    A folder that is away, as a disk that is not mounted, is looked for again at each `write`. One that was
    there and comes back, perhaps as another, is locked and read anew.

    Raises:
        InUseError: another daemon has the folder.
        ConfigError: the path can never be a folder of this user's.
    """

    def __init__(
        self, lock: Path, max_bytes: int, max_age_s: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._lock_path = lock
        self.folder = lock.parent
        self._max_bytes = max_bytes
        self._max_age_s = max_age_s
        self._clock = clock
        self._writing = threading.Lock()
        self._lock: FileLock | None = None
        self._read_in: os.stat_result | None = None
        """The folder that was read, as long as it has been there."""
        self._files: dict[str, _File] = {}
        """By name, the oldest first; changed by the thread that holds `_writing` alone."""
        self._bytes = 0
        self._deleted = {"max_mb": 0, "keep_days": 0, "disk": 0}
        try:
            self._be_there()
        except OSError as error:
            if not may_pass(error):
                raise ConfigError(f"evidence.folder: {self.folder}: {error.strerror or error}") from error
            _log.warning("the folder is waited for", folder=str(self.folder), error=str(error))

    def __contains__(self, name: str) -> bool:
        """Whether a whole file of this name is there, as far as is known."""
        return name in self._files

    def state(self) -> EvidenceState:
        """The store now."""
        return EvidenceState(len(self._files), self._bytes, dict(self._deleted))

    def write(self, name: str, data: bytes) -> None:
        """Store a file; the oldest make room.

        Raises OSError, InUseError: it is not stored, and nothing of it is there.
        """
        with self._writing:
            self._be_there()
            if len(data) > self._max_bytes:
                raise OSError(errno.EFBIG, f"{len(data)} bytes are more than evidence.max_mb", name)
            self._make_room(len(data))
            write_atomic(self.folder / name, data, mode=_MODE)
            self._forget(name)
            self._files[name] = _File(len(data), self._clock())
            self._bytes += len(data)

    def prune(self) -> None:
        """Delete what is too old. If the clock jumps ahead files go early; if back, they stay longer.

        Raises OSError, InUseError: the folder is not there any more, or a file cannot be deleted.
        """
        with self._writing:
            if self._lock is None:  # still waited for, so nothing is missed yet
                return
            self._be_there()
            oldest_s = self._clock() - self._max_age_s
            for name in [name for name, file in self._files.items() if file.at_unix_s < oldest_s]:
                self._delete(name, "keep_days")

    def close(self) -> None:
        """Let another daemon have the folder."""
        with self._writing:
            if self._lock is not None:
                self._lock.close()

    def _be_there(self) -> None:
        """Open the folder unless it is the one that was there all the time. Raises OSError, InUseError."""
        before, self._read_in = self._read_in, None
        demand_folder(self._lock_path)
        status = self.folder.stat()
        if before is None or not os.path.samestat(before, status):
            self._open()
        self._read_in = status

    def _open(self) -> None:
        """Take the folder, and find what is there. Raises OSError, InUseError."""
        if self._lock is None:
            self._lock = lock_file(self._lock_path, "evidence.folder")
        else:
            self._lock.renew()
        found = sorted(self._found(), key=lambda one: (one[1].at_unix_s, one[0]))
        self._files = dict(found)
        self._bytes = sum(file.size for file in self._files.values())

    def _found(self) -> Iterator[tuple[str, _File]]:
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if _PARTIAL.fullmatch(entry.name):
                    Path(entry).unlink(missing_ok=True)
                elif _OURS.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                    status = entry.stat(follow_symlinks=False)
                    yield entry.name, _File(status.st_size, status.st_mtime)

    def _make_room(self, wanted_bytes: int) -> None:
        while self._files and self._bytes + wanted_bytes > self._max_bytes:
            self._delete(next(iter(self._files)), "max_mb")
        while self._files and self._lacks(wanted_bytes):
            self._delete(next(iter(self._files)), "disk")
        if self._lacks(wanted_bytes):
            raise OSError(errno.ENOSPC, "the disk has no room but what results and spool need")

    def _lacks(self, wanted_bytes: int) -> bool:
        found = os.statvfs(self.folder)
        reserve = min(RESERVE_BYTES, RESERVE_SHARE * found.f_blocks * found.f_frsize)
        return found.f_bavail * found.f_frsize < wanted_bytes + reserve

    def _delete(self, name: str, why: str) -> None:
        """Delete a file. Raises OSError, as on a disk that became read-only; the file is known still."""
        (self.folder / name).unlink(missing_ok=True)
        self._forget(name)
        self._deleted[why] += 1

    def _forget(self, name: str) -> None:
        if (file := self._files.pop(name, None)) is not None:
            self._bytes -= file.size
