"""Threads for what would hold up the event loop, and what is small enough to stay on it."""

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from spillover.cloud.serving.stopping import finished_by
from spillover.common.types import Tensor

LOOP_BYTES = 256 * 1024
"""More bytes are parsed, converted, packed and summed up on a thread.

On two cores 256 kB of picture take the loop .1 ms, and 256 kB of the worst that a message can hold 10 ms; a
change of thread and back takes .15 ms. The usual JPEG is smaller.
"""

LOOP_ELEMENTS = 2048
"""More elements that are converted one by one (1.7 us each) go to a thread, and larger outputs to be decoded.

A prediction of a thousand classes takes the loop 44 us.
"""

T = TypeVar("T")


class Workers:
    """A pool of threads whose work has names, so that the log can say what hangs."""

    def __init__(self, name: str, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, name)
        self._running: dict[Future[Any], str] = {}

    def start(self, what: str, work: Callable[..., T], *args: object) -> Future[T]:
        """Have a thread run `work(*args)`. Raises RuntimeError once the stop has begun."""
        future = self._pool.submit(work, *args)
        self._running[future] = what
        future.add_done_callback(self._forget)
        return future

    async def run(self, what: str, work: Callable[..., T], *args: object) -> T:
        """Run `work(*args)` on a thread. Raises what it raises."""
        return await asyncio.wrap_future(self.start(what, work, *args))

    async def run_if(self, large: bool, what: str, work: Callable[..., T], *args: object) -> T:
        """Run `work(*args)`: on a thread when it is about something `large`, else here."""
        return await self.run(what, work, *args) if large else work(*args)

    async def stop(self, deadline_s: float) -> list[str]:
        """Take nothing more and drop what has not begun; the names of what still runs at `deadline_s`."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        under_way = [asyncio.wrap_future(future) for future in list(self._running)]
        await finished_by(deadline_s, *under_way)
        for future in under_way:
            if future.done() and not future.cancelled():
                future.exception()  # its caller has it
        return sorted(self._running.values())

    def _forget(self, future: Future[Any]) -> None:
        self._running.pop(future, None)


def is_large(tensors: Iterable[Tensor]) -> bool:
    """Whether packing these would hold up the event loop."""
    for tensor in tensors:
        if not tensor.dtype.hasobject:
            large = tensor.nbytes > LOOP_BYTES
        else:
            large = tensor.size > LOOP_ELEMENTS or sum(len(str(text)) for text in tensor.flat) > LOOP_BYTES
        if large:
            return True
    return False
