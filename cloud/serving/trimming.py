"""Memory that large messages leave behind goes back to the system.

glibc keeps freed memory for the next message: for a stream of pictures that is right, after one flood it is a
process that stays large for ever. malloc_trim(3) gives back whole pages of every arena. It takes some
milliseconds, so it runs on a thread, once for many messages.
"""

import asyncio
import ctypes
from collections.abc import Callable

from spillover.cloud.serving.workers import Workers

_M_ARENA_MAX = -8
"""From glibc's malloc.h."""
_ARENAS = 2
ENOUGH_BYTES = 16 * 1024 * 1024
"""So many bytes of messages have come and gone before it is worth it."""
_AFTER_S = 1.0


class Trimmer:
    """Counts bytes that were freed, and gives them back a moment after there were enough of them."""

    def __init__(self, workers: Workers, trim: Callable[[], object] | None = None) -> None:
        self._workers = workers
        self._trim = trim or _trim()
        self._freed = 0
        self._timer: asyncio.TimerHandle | None = None
        self._running: asyncio.Task[object] | None = None

    def freed(self, amount: int) -> None:
        """So many bytes of a message, or of an answer, are no longer needed."""
        self._freed += amount
        if self._freed >= ENOUGH_BYTES and self._timer is None and self._trim is not None:
            self._timer = asyncio.get_running_loop().call_later(_AFTER_S, self._start)

    def stop(self) -> None:
        """Begin no more."""
        self._trim = None
        if self._timer is not None:
            self._timer.cancel()

    def _start(self) -> None:
        self._timer = None
        self._freed = 0
        if self._trim is not None:
            self._running = asyncio.ensure_future(self._workers.run("giving back of memory", self._trim))


def keep_few_arenas() -> None:
    """Have glibc share its arenas among all threads. Call it once, before there are threads.

    By default there are eight for each core, and what one thread has freed no other can use: under a flood of
    messages of 8 MB the process took 765 MB with them, and 364 MB with two.
    """
    if (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        mallopt(_M_ARENA_MAX, _ARENAS)


def _trim() -> Callable[[], object] | None:
    """The function, where the C library has it."""
    function = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return None if function is None else lambda: function(0)
