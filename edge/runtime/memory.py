"""Memory given back to the system where the C library keeps it."""

import ctypes
import sys


def release_free_memory() -> None:
    """Hand memory that is free in this process back to the system (glibc's `malloc_trim`; elsewhere nothing).

    Loading a network frees as much again as the network keeps; glibc would hold on to it for good.
    """
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)
