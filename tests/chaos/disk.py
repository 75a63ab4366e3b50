"""Disks that fail: one small enough to be filled, which can be made read-only; one that hangs or is slow."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

_LIMIT_S = 30.0


class CannotHappenHereError(Exception):
    """A fault needs something that this machine or this user does not have."""


class Disk:
    """A tmpfs at `folder` where this user may mount one, else the plain folder: `why_not` says why."""

    def __init__(self, folder: Path, size_mb: int) -> None:
        folder.mkdir()
        self.folder = folder
        self._ballast = folder / "ballast"
        self.why_not = _mount("-t", "tmpfs", "-o", f"size={size_mb}m,mode=700", "tmpfs", str(folder))

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        """Not a byte is left while inside. Raises CannotHappenHereError."""
        self._demand_own()
        with self._ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(1 << 16)):
                pass
        try:
            yield
        finally:
            self._ballast.unlink()

    @contextlib.contextmanager
    def read_only(self) -> Iterator[None]:
        """Nothing can be written while inside; nobody may have a file open for that. May raise too."""
        self._demand_own()
        self._remount("ro")
        try:
            yield
        finally:
            self._remount("rw")

    def close(self) -> None:
        """Give the disk back, with all that is on it."""
        if not self.why_not:
            subprocess.run(["umount", "--lazy", str(self.folder)], check=False, timeout=_LIMIT_S)

    def _demand_own(self) -> None:
        if self.why_not:
            raise CannotHappenHereError(f"no small disk can be mounted: {self.why_not}")

    def _remount(self, how: str) -> None:
        if why_not := _mount("-o", f"remount,{how}", str(self.folder)):
            raise CannotHappenHereError(why_not)


class LateSyncs:
    """Lets syncs hang or take long, on command, in Python processes started with `environment`.

    A slow disk hangs at moments that nobody can choose; this one does while a file in `folder` exists.
    """

    def __init__(self, folder: Path) -> None:
        self._hangs = folder / "syncs-hang"
        path = folder / "late-syncs"
        path.mkdir(exist_ok=True)
        (path / "sitecustomize.py").write_text(_LATE_SYNC.format(path=str(self._hangs), files=_FILES))
        folders = [str(path), os.environ.get("PYTHONPATH", "")]
        self.environment = {"PYTHONPATH": os.pathsep.join(filter(None, folders))}

    @contextlib.contextmanager
    def hanging(self, *, folders: bool = True) -> Iterator[None]:
        """No sync returns while inside; those of folders do where `folders` is not set."""
        yield from self._while_late("" if folders else _FILES)

    @contextlib.contextmanager
    def slow(self, seconds: float) -> Iterator[None]:
        """Each sync takes so much longer while inside."""
        yield from self._while_late(f"{seconds}")

    def _while_late(self, how: str) -> Iterator[None]:
        fresh = self._hangs.with_suffix(".new")
        fresh.write_text(how)
        fresh.replace(self._hangs)
        try:
            yield
        finally:
            self._hangs.unlink()


_FILES = "files"
_LATE_SYNC = """
import os, stat, time

def late(sync):
    def call(file):
        begin = time.monotonic()
        while True:
            try:
                with open({path!r}) as how:
                    seconds = how.read()
            except FileNotFoundError:
                break
            if seconds == {files!r}:
                if stat.S_ISDIR(os.stat(file).st_mode):
                    break
            elif seconds and time.monotonic() - begin >= float(seconds):
                break
            time.sleep(0.01)
        sync(file)
    return call

os.fsync, os.fdatasync = late(os.fsync), late(os.fdatasync)
"""


def _mount(*arguments: str) -> str:
    """Empty, or why it could not be done."""
    if os.geteuid():
        return "only root may"
    try:
        run = subprocess.run(
            ["mount", *arguments], capture_output=True, text=True, timeout=_LIMIT_S, check=False
        )
    except OSError as error:
        return str(error)
    return run.stderr.strip() if run.returncode else ""
