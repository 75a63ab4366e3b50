"""Memory that large messages leave behind goes back to the system.

glibc keeps freed memory for the next message: for a stream of pictures that is right, after one flood it is a
process that stays large for ever. malloc_trim(3) gives back whole pages of every arena. It takes some
milliseconds, so it runs on a thread, once for many messages.
"""

import asyncio
from collections.abc import Callable

from spillover.cloud.serving.workers import Workers
from spillover.common.allocator import giving_back

ENOUGH_BYTES = 512 * 1024
"""Of a call with fewer bytes the memory stays for the next one: usual pictures are smaller."""
_AFTER_S = 1.0


class Trimmer:
    """Gives memory back a moment after a large call, together with what others have left until then."""

    def __init__(self, workers: Workers, trim: Callable[[], object] | None = None) -> None:
        self._workers = workers
        self._trim = trim or giving_back()
        self._timer: asyncio.TimerHandle | None = None
        self._running: asyncio.Task[object] | None = None

    def freed(self, amount: int) -> None:
        """So many bytes of a call are no longer needed."""
        if amount >= ENOUGH_BYTES and self._timer is None and self._trim is not None:
            self._timer = asyncio.get_running_loop().call_later(_AFTER_S, self._start)

    def stop(self) -> None:
        """Begin no more."""
        self._trim = None
        if self._timer is not None:
            self._timer.cancel()

    def _start(self) -> None:
        self._timer = None
        if self._trim is not None:
            self._running = asyncio.ensure_future(self._workers.run("giving back of memory", self._trim))
