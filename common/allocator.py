"""What the C library does with memory that was freed: keep it for the next picture, or give it back.

All of it is of glibc; other C libraries are left as they are.
"""

import ctypes
import sys
from collections.abc import Callable

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
"""From glibc's malloc.h."""
_LARGEST_KEPT_BYTES = 16 << 20
"""A decoded picture of five million pixels; larger blocks go back to the system as soon as they are freed."""
_KEPT_BYTES = 64 << 20
"""Free memory at the end of a heap that is kept; what is beyond goes back."""
_ARENAS = 2


def keep_picture_memory() -> bool:
    """Have glibc reuse the memory of pictures; whether it does. Call it once, before the first picture.

    By default each block above 128 kB is mapped when it is taken and unmapped when it is freed. A frame's
    pixels are such blocks, so every frame pays for page faults: 423 for 640x480, 1321 for 1280x720, which is
    half the time of decoding. glibc raises the limit by itself when a larger block happens to be freed, and
    then without a bound that we chose; this makes both certain.
    """
    return _set(_M_MMAP_THRESHOLD, _LARGEST_KEPT_BYTES) and _set(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def keep_few_arenas() -> bool:
    """Have glibc share its arenas among all threads; whether it does. Call it once, before there are threads.

    By default there are eight for each core, and what one thread has freed no other can use: under a flood of
    messages of 8 MB the process took 765 MB with them, and 364 MB with two.
    """
    return _set(_M_ARENA_MAX, _ARENAS)


def giving_back() -> Callable[[], object] | None:
    """What gives whole free pages of every arena back to the system, malloc_trim(3); None: nothing does.

    It takes some milliseconds.
    """
    libc = _glibc()
    return None if libc is None else lambda: libc.malloc_trim(0)


def _set(name: int, value: int) -> bool:
    libc = _glibc()
    return libc is not None and libc.mallopt(name, value) == 1


def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") else None  # musl has none
