"""Resident memory of a process, and what it is made of."""

import re
import subprocess
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from spillover.common.errors import SpilloverError

_POLL_S = 0.5
_MAPPING = re.compile(r"^[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \d+ *(.*)$")
_ALLOCATED = ("", "[heap]")


@dataclass(frozen=True, slots=True)
class Part:
    """Resident memory in MB (10^6 bytes) of one mapped file, or of everything that was allocated."""

    name: str
    files_mb: float
    """Pages that are as in the file, which the kernel can take back."""
    own_mb: float
    """Pages that are in memory alone: allocated, or changed by the loader."""


@dataclass(frozen=True, slots=True)
class Rss:
    """Memory in MB (10^6 bytes): resident, its peak, and the part that is pages of files (libraries)."""

    resident_mb: float
    peak_mb: float
    files_mb: float
    parts: tuple[Part, ...] = ()
    """The largest first."""


def last_rss(process: subprocess.Popen[bytes], limit_s: float) -> Rss:
    """Watch a process until it ends; its last resident memory, from Linux's /proc.

    Raises:
        SpilloverError: the process did not end within `limit_s`.
    """
    rss = Rss(0.0, 0.0, 0.0)
    for _ in range(int(limit_s / _POLL_S)):
        rss = _read_rss(process.pid) or rss
        try:
            process.wait(_POLL_S)
        except subprocess.TimeoutExpired:
            continue
        return rss
    raise SpilloverError(f"process {process.pid} did not end within {limit_s:.0f} s")


def parts_of(smaps: Iterable[str]) -> tuple[Part, ...]:
    """Sum up /proc/PID/smaps by file."""
    resident: Counter[str] = Counter()
    own: Counter[str] = Counter()
    name = ""
    for line in smaps:
        if header := _MAPPING.match(line):
            name = "allocated" if header[1] in _ALLOCATED else Path(header[1]).name
        elif line.startswith("Rss:"):
            resident[name] += int(line.split()[1])
        elif line.startswith("Anonymous:"):
            own[name] += int(line.split()[1])
    return tuple(Part(name, _mb(kib - own[name]), _mb(own[name])) for name, kib in resident.most_common())


def _read_rss(pid: int) -> Rss | None:
    """None when the process is gone; a process that is ending has no memory lines left."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
        smaps = Path(f"/proc/{pid}/smaps").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    lines = (line.split() for line in status.splitlines())
    kib = {words[0].rstrip(":"): int(words[1]) for words in lines if words[-1:] == ["kB"]}
    if "VmRSS" not in kib:
        return None
    resident, peak, files = (_mb(kib[key]) for key in ("VmRSS", "VmHWM", "RssFile"))
    return Rss(resident, peak, files, parts_of(smaps.splitlines()))


def _mb(kib: int) -> float:
    return kib * 1024 / 1e6
