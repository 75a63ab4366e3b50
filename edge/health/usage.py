"""Reads limits, pressure and wear: what a control group may take, who waits, and what was written to disks.

Sources: cgroup v2 (Documentation/admin-guide/cgroup-v2.rst), PSI (Documentation/accounting/psi.rst), and
block statistics (Documentation/block/stat.rst).
"""

import re
from dataclasses import dataclass
from pathlib import Path

from spillover.common.cgroups import memory_groups
from spillover.edge.health.sensors import read

_SECTOR_BYTES = 512
"""The kernel counts in these, whatever the disk has."""
_WRITTEN = 6
"""Position of the sectors written in a line of block statistics."""


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """The tightest memory limit above this process; None where there is none, or no memory controller."""

    limit_bytes: int | None = None
    used_bytes: int | None = None
    """What can be read from files again is not counted: the kernel takes that back without harm."""
    oom_kills: int | None = None


def memory_limit(sys: Path, proc: Path) -> MemoryLimit:
    """The limit with the least room left, of this process's control group and those above it."""
    groups = [group.folder for group in memory_groups(sys, proc) if group.is_v2]
    if not groups:
        return MemoryLimit()
    limits = []
    for group in groups:
        limit, current = _bytes(group / "memory.max"), _bytes(group / "memory.current")
        if limit is not None and current is not None:
            again = _counted(group / "memory.stat", "inactive_file") or 0
            limits.append((limit, max(0, current - again)))
    limit, used = min(limits, key=lambda one: one[0] - one[1], default=(None, None))
    return MemoryLimit(limit, used, _counted(groups[0] / "memory.events", "oom_kill"))


def pressure(proc: Path, resource: str) -> float | None:
    """Share of the last 10 s in which at least one task waited for `cpu`, `memory` or `io`, 0 to 1."""
    found = re.match(r"some avg10=(\d{1,3}\.\d{1,6}) ", read(proc / "pressure" / resource) or "")
    return min(1.0, float(found[1]) / 100) if found else None


def written_bytes(sys: Path) -> dict[str, int]:
    """Bytes written since boot to each disk that is a device, not a part or an image of another."""
    written = {}
    for disk in sorted((sys / "block").glob("*")):
        words = (read(disk / "stat") or "").split()
        if (
            (disk / "device").exists()
            and len(words) > _WRITTEN
            and re.fullmatch(r"\d{1,18}", words[_WRITTEN])
        ):
            written[disk.name] = int(words[_WRITTEN]) * _SECTOR_BYTES
    return written


def _bytes(path: Path) -> int | None:
    """A number of bytes; None for `max` and anything else."""
    text = (read(path) or "").strip()
    return int(text) if re.fullmatch(r"\d{1,18}", text) else None


def _counted(path: Path, key: str) -> int | None:
    """The value of `key` in lines such as `oom_kill 3`."""
    found = re.search(rf"^{key} (\d{{1,18}})$", read(path) or "", re.MULTILINE)
    return int(found[1]) if found else None
