"""Memory that only the start needed, given back to the system once the daemon is built."""

import ctypes
import mmap
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from spillover.common.allocator import giving_back

_SMAPS = Path("/proc/self/smaps")
_MAPPING = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) r-[-x]p \S+ \S+ [1-9]\d* +/")
"""First line of a private mapping of a file that nothing can write through: code and constants."""
_MAY_BE_WRITTEN = re.compile(r"^[0-9a-f]+-[0-9a-f]+ ")
_UNCHANGED = re.compile(r"^Anonymous: +0 kB")


def release_memory_of_the_start() -> None:
    """Give back free memory and the pages of libraries that loading and warming up have touched.

    Loading a network frees as much again as the network keeps; glibc would hold on to it for good.
    Three quarters of the libraries' pages are read once: relocations, registrations, initialisers. They are
    unmapped here, and each that is needed again is mapped again by a page fault. They stay in the kernel's
    cache of files until it wants their room, which it takes from there first.
    """
    _unmap_unchanged_files()
    if trim := giving_back():
        trim()


def _unmap_unchanged_files() -> None:
    try:
        with _SMAPS.open(encoding="utf-8", errors="replace") as smaps:
            mappings = list(unchanged_mappings(smaps))
    except OSError:  # not Linux, or /proc is not there
        return
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    for start, end in mappings:
        madvise(start, end - start, mmap.MADV_DONTNEED)  # what it refuses stays as it is


def unchanged_mappings(smaps: Iterable[str]) -> Iterator[tuple[int, int]]:
    """Start and end of the mappings in /proc/PID/smaps whose pages all are as in their file.

    A page that was changed, as the loader does before it takes the right to write away, is not in the file:
    to unmap it would lose it. So a mapping with a single such page is left alone.
    """
    found: tuple[int, int] | None = None
    for line in smaps:
        if header := _MAPPING.match(line):
            found = (int(header[1], 16), int(header[2], 16))
        elif _MAY_BE_WRITTEN.match(line):
            found = None
        elif found and _UNCHANGED.match(line):
            yield found
            found = None
