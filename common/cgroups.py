"""The control groups that this process is in, which say what memory it may have and has taken."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class MemoryGroup(NamedTuple):
    """A control group that counts memory, by its folder."""

    folder: Path
    is_v2: bool
    """Of version 2 (Documentation/admin-guide/cgroup-v2.rst); version 1 names its files otherwise."""


def memory_groups(sys: Path = Path("/sys"), proc: Path = Path("/proc")) -> Iterator[MemoryGroup]:
    """This process's own group first, then those around it; none where the kernel tells of none."""
    try:
        lines = (proc / "self" / "cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:  # "0::/path", or of version 1 "4:memory:/path"
        parts = line.split(":", 2)
        if len(parts) < 3 or ".." in parts[2].split("/"):
            continue
        controllers = parts[1]
        if controllers and "memory" not in controllers.split(","):
            continue
        top = sys / "fs" / "cgroup" / ("memory" if controllers else "")
        own = top / parts[2].strip("/")
        for folder in (own, *own.parents):
            yield MemoryGroup(folder, not controllers)
            if folder == top:
                break
