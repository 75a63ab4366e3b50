"""Decoding of pictures and features on threads, fair over callers: one who sends much delays itself alone."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from spillover.cloud.models.vision import Undecoded
from spillover.cloud.serving.admission import Call
from spillover.cloud.serving.decode_queue import RETRY_S, DecodeQueue, Skip
from spillover.cloud.serving.workers import Workers
from spillover.cloud.telemetry.metrics import Metrics
from spillover.common.errors import Cause, DeadlineExpiredError, OverloadedError, SpilloverError

MOST_WAITING = 1024
"""Decodings that wait, of all models together. Admission bounds each model's requests (`max_pending`)."""

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class _Decoding:
    """One decoding, from its arrival on. `result` belongs to `loop`."""

    holder: str
    cost: int
    expires_s: float
    what: str
    work: Callable[["_Decoding"], Any]
    loop: asyncio.AbstractEventLoop
    result: "asyncio.Future[Any]"
    arrived_s: float
    given_up: bool = False

    def settle(self, how: Callable[[], object]) -> None:
        """Have the loop settle the result, unless it is settled; from any thread."""
        if not self.loop.is_closed():  # else the server has ended, and left this behind
            self.loop.call_soon_threadsafe(lambda: None if self.result.done() else how())


class Decoding:
    """Lets `slots` decodings run on `workers` at a time; the others wait for their turn.

    The event loop adds and cancels, decode threads take the next when they have finished one, so a lock
    guards the queue.
    """

    def __init__(
        self,
        workers: Workers,
        slots: int,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._workers = workers
        self._lock = threading.RLock()  # a thread may finish a job while it hands out the next
        self._queue: DecodeQueue[_Decoding] = DecodeQueue(slots, MOST_WAITING, clock, self._on_skip)
        self._stopping = False
        self._starting = False
        self._clock = clock
        self._skipped, self._wait = metrics.decode_skipped, metrics.decode_wait
        metrics.decode_waiting.set_function(lambda: self._queue.waiting)

    async def run(self, what: str, call: Call, undecoded: Undecoded, work: Callable[[], T]) -> T:
        """Run `work()`, which decodes `undecoded`, on a thread when it is its turn; raises what it raises.

        What the decoding costs beyond its estimate is charged before it begins, and delays what the same
        caller sends next. A call that ends while its decoding waits takes it out of the queue.

        Raises:
            OverloadedError: too many wait, and most of them are of this caller.
            DeadlineExpiredError: the call's deadline passed first.
            InvalidInputError: what the decoding costs cannot be told, or is too much.
        """
        loop = asyncio.get_running_loop()
        decode = partial(self._decode, undecoded, work)
        job = _Decoding(
            holder=call.holder,
            cost=undecoded.cost,
            expires_s=call.expires_s,
            what=what,
            work=decode,
            loop=loop,
            result=loop.create_future(),
            arrived_s=self._clock(),
        )
        with self._lock:
            if self._stopping:
                raise asyncio.CancelledError
            self._queue.add(job)
            self._start()
        try:
            result: T = await job.result
        except asyncio.CancelledError:
            job.given_up = True
            with self._lock:
                self._queue.cancel(job)
            raise
        return result

    def stop(self) -> None:
        """Begin nothing more; what waits is cancelled."""
        with self._lock:
            self._stopping = True
            self._queue.cancel_all()

    def _start(self) -> None:
        """Hand out what may run now. Under the lock."""
        if self._starting:  # what was handed out has ended already; the loop below goes on
            return
        self._starting = True
        while not self._stopping and (job := self._queue.take()):
            begun = self._workers.start(job.what, job.work, job)
            begun.add_done_callback(partial(self._done, job))
        self._starting = False

    def _decode(self, undecoded: Undecoded, work: Callable[[], T], job: _Decoding) -> T | None:
        """On a thread."""
        if job.given_up:
            self._skipped.labels(Skip.CANCELLED.value).inc()
            return None
        self._wait.observe(self._clock() - job.arrived_s)
        if extra := undecoded.measure() - job.cost:
            with self._lock:
                self._queue.charge(job, extra)
        return work()

    def _done(self, job: _Decoding, ended: Future[Any]) -> None:
        """On the thread that ran it, or on the event loop when the stop has cancelled it."""
        if ended.cancelled():
            job.settle(job.result.cancel)
        elif error := ended.exception():
            job.settle(partial(job.result.set_exception, error))
        else:
            job.settle(partial(job.result.set_result, ended.result()))
        with self._lock:
            self._queue.done(job)
            self._start()

    def _on_skip(self, job: _Decoding, reason: Skip) -> None:
        self._skipped.labels(reason.value).inc()
        if reason is Skip.CANCELLED:
            job.settle(job.result.cancel)
        else:
            job.settle(partial(job.result.set_exception, _error_of(reason)))


def _error_of(reason: Skip) -> SpilloverError:
    if reason is Skip.DEADLINE:
        return DeadlineExpiredError("the call's deadline passed while it waited for a decode thread")
    text = "other callers' decodings took the place of this caller's newest"
    return OverloadedError(text, RETRY_S, Cause.SHARE)
