"""How the C library keeps the memory of pictures between frames."""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""From glibc's malloc.h."""
_LARGEST_KEPT_BYTES = 16 << 20
"""A decoded picture of five million pixels; larger blocks go back to the system as soon as they are freed."""
_KEPT_BYTES = 64 << 20
"""Free memory at the end of a heap that is kept; what is beyond goes back."""


def keep_picture_memory() -> bool:
    """Have glibc reuse the memory of pictures; whether it does. Call it once, before the first picture.

    By default each block above 128 kB is mapped when it is taken and unmapped when it is freed. A frame's
    pixels are such blocks, so every frame pays for page faults: 423 for 640x480, 1321 for 1280x720, which is
    half the time of decoding. glibc raises the limit by itself when a larger block happens to be freed, and
    then without a bound that we chose; this makes both certain. Other C libraries are left as they are.
    """
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):  # musl
        return False
    settings = ((_M_MMAP_THRESHOLD, _LARGEST_KEPT_BYTES), (_M_TRIM_THRESHOLD, _KEPT_BYTES))
    return all(libc.mallopt(name, value) == 1 for name, value in settings)
