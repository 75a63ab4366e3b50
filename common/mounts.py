"""Whether the folder of a file is there, so that a disk that is away does not fill the one below it."""

import errno
from collections.abc import Iterator
from pathlib import Path

from spillover.common.files import real_path

FSTAB, MOUNTED = Path("/etc/fstab"), Path("/proc/self/mountinfo")
"""What should be mounted (fstab(5)), and what is (proc_pid_mountinfo(5))."""

_HOPELESS = frozenset(
    {
        errno.EACCES,
        errno.EINVAL,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.ENOTDIR,
        errno.ENXIO,
        errno.EPERM,
    }
)


def demand_folder(file: Path) -> None:
    """Check that the folder of `file` is there and on the disk that is meant.

    No folder is made: below a mount point whose disk is away it would be made on another disk, and fill it.
    A mount point of /etc/fstab on which nothing is mounted counts as not there, as the folder on which the
    disk will lie is one of the disk below.

    Raises:
        OSError: it is not; the text says which folder.
    """
    folder = real_path(file).parent
    if away := next((point for point in _not_mounted() if folder.is_relative_to(point)), None):
        raise OSError(errno.ENODEV, "is a mount point of /etc/fstab, and nothing is mounted there", str(away))
    if not folder.exists():
        raise FileNotFoundError(errno.ENOENT, "this folder is not there, and nothing makes it", str(folder))


def may_pass(error: OSError) -> bool:
    """Whether waiting helps: a disk that is away, full or read-only, not a path that cannot be used."""
    return error.errno not in _HOPELESS


def _not_mounted() -> Iterator[Path]:
    expected = {point for point in _fields(FSTAB, 1) if point.startswith("/") and point != "/"}
    if expected:
        mounted = set(_fields(MOUNTED, 4))
        yield from (Path(point) for point in expected if point not in mounted)


def _fields(table: Path, index: int) -> Iterator[str]:
    """One column of a table of mounts; nothing where there is no such table."""
    try:
        lines = table.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return
    for line in lines:
        fields = line.split()
        if len(fields) > index and not line.lstrip().startswith("#"):
            point = fields[index]
            for escape, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
                point = point.replace(escape, character)
            yield point.rstrip("/") or "/"
