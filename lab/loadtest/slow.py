"""Slows a process to the speed of a small device, by a cgroup's quota of CPU time."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import psutil

from spillover.common.errors import SpilloverError

PERIOD_US = 10_000
"""Short beside a frame's time, so that a frame is slowed evenly instead of stalling at its end."""
_PREFIX = "spillover-loadtest-"
"""Of a group's name; behind it stand the number of the test's process and of the edge's."""
_V1 = Path("/sys/fs/cgroup/cpu")
_V2 = Path("/sys/fs/cgroup")


class Brake(Protocol):
    """Slows processes."""

    description: str

    def hold(self, pid: int) -> None:
        """Slow the process `pid` and all its threads from now on."""
        ...


class NoBrake:
    """Slows nothing."""

    description = "edges run at this machine's full speed"

    def hold(self, pid: int) -> None:
        """Nothing to do."""


class CgroupBrake:
    """Each process has a cgroup of its own with `cpu.cfs_quota_us` (v1) or `cpu.max` (v2)."""

    def __init__(self, root: Path, core_share: float) -> None:
        self._root = root
        self._quota_us = max(1000, round(core_share * PERIOD_US))
        self._v2 = (root / "cgroup.controllers").exists()
        self._groups: list[Path] = []
        self.description = (
            f"each edge has {core_share:.0%} of one core by cgroup {'v2' if self._v2 else 'v1'} quota "
            f"({self._quota_us} us every {PERIOD_US} us)"
        )

    def hold(self, pid: int) -> None:
        """Make a group and move the process into it."""
        group = self._root / f"{_PREFIX}{os.getpid()}-{pid}"
        group.mkdir()
        self._groups.append(group)
        if self._v2:
            (group / "cpu.max").write_text(f"{self._quota_us} {PERIOD_US}")
        else:
            (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (group / "cpu.cfs_quota_us").write_text(str(self._quota_us))
        (group / "cgroup.procs").write_text(str(pid))

    def release(self) -> None:
        """Remove the groups whose processes are gone."""
        for group in self._groups:
            with contextlib.suppress(OSError):
                group.rmdir()
        self._groups.clear()


@contextlib.contextmanager
def brake_for(core_share: float | None) -> Iterator[Brake]:
    """The brake for `slow.core_share`.

    Raises:
        SpilloverError: no cgroup can be made here.
    """
    if core_share is None:
        yield NoBrake()
        return
    brake = CgroupBrake(_writable_root(), core_share)
    try:
        yield brake
    finally:
        brake.release()


def clear_groups(roots: Sequence[Path] = (_V1, _V2)) -> None:
    """Remove the groups of tests that are gone, and of whose edges none is left."""
    for root in roots:
        for group in root.glob(f"{_PREFIX}*"):
            owner = group.name.removeprefix(_PREFIX).partition("-")[0]
            if owner.isdigit() and not psutil.pid_exists(int(owner)):
                with contextlib.suppress(OSError):
                    group.rmdir()


def _writable_root() -> Path:
    for root in (_V1, _V2):
        probe = root / f"{_PREFIX}{os.getpid()}-probe"
        try:
            probe.mkdir()
        except OSError:
            continue
        usable = (probe / "cpu.cfs_quota_us").exists() or (probe / "cpu.max").exists()
        probe.rmdir()
        if usable:
            return root
    raise SpilloverError("slow.core_share needs a writable cpu cgroup (run as root), and there is none here")
