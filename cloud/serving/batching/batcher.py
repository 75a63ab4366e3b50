"""The threads that take batches from the queue and run them.

Threads and not tasks: an executor releases the interpreter lock while it computes, so an instance can start
its next batch at once, without waiting for its turn on the event loop. Results go back to the loop in one
call a batch. A client that leaves does not disturb these threads: a cancelled future is skipped, never set.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from spillover.cloud.config import BatchingConfig
from spillover.cloud.executors.base import Executor
from spillover.cloud.serving.batching.buffers import BatchBuffers
from spillover.cloud.serving.batching.queue import Batched, FairQueue, Work
from spillover.cloud.serving.batching.window import BatchWindow
from spillover.cloud.serving.stopping import finished_by
from spillover.cloud.serving.workers import LOOP_BYTES
from spillover.common.errors import DeadlineExpiredError, ModelError, SpilloverError, UnavailableError
from spillover.common.types import Tensor

Answer = Batched | SpilloverError
Deliver = Callable[[list[tuple[Work, Answer]], int, float], None]

_HANDING_OVER_S = 150e-6
"""What two changes of thread cost on a busy server. A shorter run stays on the event loop."""


class Observer(Protocol):
    """Receives the figures of each batch; called on the event loop."""

    def batch_done(self, rows: int, infer_s: float, queue_s: Sequence[float]) -> None:
        """A batch of `rows` took `infer_s`; its requests had waited `queue_s`."""
        ...


class Batcher:
    """Runs one model's work. Make it on the event loop; `run` and `stop` belong there too."""

    def __init__(self, executor: Executor, config: BatchingConfig, observer: Observer) -> None:
        self._executor = executor
        self._config = config
        self._observer = observer
        specs = executor.specs
        self._max_rows = config.max_batch_size if specs.batchable else specs.fixed_rows or 1
        self._loop_rows = specs.rows_within(LOOP_BYTES)
        self._loop = asyncio.get_running_loop()
        self._queue = FairQueue()
        self._arrived_s = 0.0
        self._waking_rows = 1
        self._changed = threading.Condition()
        self._stopping = False
        self._running: dict[int, list[Work]] = {}
        """What each thread runs now."""
        self._left = config.instances
        self._ended = asyncio.Event()
        threads = [
            threading.Thread(target=self._serve, name=f"batcher-{number}", daemon=True)
            for number in range(config.instances)
        ]
        for thread in threads:
            thread.start()

    async def run(self, work: Work) -> Batched:
        """Queue `work` and wait for its rows.

        Raises:
            InputRefusedError: the network cannot compute with its values.
            ModelError: the network failed on it.
            DeadlineExpiredError: the call ended while it waited.
            UnavailableError: the model is being unloaded.
        """
        with self._changed:
            if self._stopping:
                raise UnavailableError("the model is being unloaded")
            here = self._runs_here(work)
            if not here:
                self._queue.push(work)
                self._arrived_s = work.submitted_s
                if self._queue.rows >= self._waking_rows:
                    self._changed.notify()
        if here:
            self._run([work], BatchBuffers(self._max_rows, self._executor.run_rows), self._on_loop)
        return await work.future

    def _runs_here(self, work: Work) -> bool:
        """Whether to run `work` on the event loop: it is surely short, and handing it over would cost more.

        Only the shapes make that sure: a network with another free axis than the batch may take seconds.
        """
        if work.rows > self._loop_rows or self._queue.rows or self._config.max_queue_delay_s:
            return False
        latency = self._executor.latency
        return latency.recently_short and latency.expected_s(work.rows) < _HANDING_OVER_S

    async def stop(self, deadline_s: float) -> bool:
        """Finish what is queued, then end the threads.

        False when a run has not ended by `deadline_s`, in `time.monotonic()` seconds: its thread is left
        behind, and the requests that wait for it fail with UnavailableError.
        """
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if await finished_by(deadline_s, self._ended.wait()):
            return True
        self._give_up()
        return False

    def _give_up(self) -> None:
        with self._changed:
            waiting = [work for batch in self._running.values() for work in batch]
            while len(self._queue):
                batch, dead = self._queue.take(1, time.monotonic())
                waiting += batch + dead
        error = UnavailableError("the model was stopped while a run of it hung")
        self._on_loop([(work, error) for work in waiting], 0, 0.0)

    def _serve(self) -> None:
        self._run_batches()
        self._call_on_loop(self._thread_ended)

    def _thread_ended(self) -> None:
        self._left -= 1
        if not self._left:
            self._ended.set()

    def _run_batches(self) -> None:
        buffers = BatchBuffers(self._max_rows, self._executor.run_rows)
        window = BatchWindow(self._executor.latency, self._max_rows)

        def deliver(answers: list[tuple[Work, Answer]], rows: int, infer_s: float) -> None:
            window.answered(rows, self._queue.rows)  # before any of them can be back
            self._deliver(answers, rows, infer_s)

        while (batch := self._next_batch(window)) is not None:
            self._running[threading.get_ident()] = batch
            if batch:
                self._run(batch, buffers, deliver)
            self._running[threading.get_ident()] = batch = []  # an idle instance must not hold the last batch

    def _next_batch(self, window: BatchWindow) -> list[Work] | None:
        """Wait for work; None when there is none and the batcher stops."""
        with self._changed:
            while not self._queue.rows:
                if self._stopping:
                    return None
                self._changed.wait()
            if self._config.max_queue_delay_s:
                self._wait_for_more()
            else:
                self._wait_for(window)
            batch, dead = self._queue.take(self._max_rows, time.monotonic())
            if self._queue.rows:
                self._changed.notify()  # another instance was perhaps not woken for them
        if dead:
            expired = DeadlineExpiredError("the call's deadline passed while it waited for the model")
            self._deliver([(work, expired) for work in dead], 0, 0.0)
        return batch

    def _wait_for_more(self) -> None:
        """With a queue delay configured, wait for rows until a preferred size is there or time is up."""
        until_s = time.monotonic() + self._config.max_queue_delay_s
        enough = {self._max_rows, *self._config.preferred_sizes}
        while not self._stopping and 0 < self._queue.rows < self._max_rows and self._queue.rows not in enough:
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                return
            self._changed.wait(left_s)

    def _wait_for(self, window: BatchWindow) -> None:
        """Wait for the clients just answered, while they come and a run costs more than the wait."""
        self._waking_rows = window.rows  # not woken for each of them
        while not self._stopping:
            left_s = window.wait_budget_s(self._queue.rows, self._arrived_s)
            if left_s <= 0:
                break
            self._changed.wait(left_s)
        self._waking_rows = 1

    def _run(self, batch: list[Work], buffers: BatchBuffers, deliver: Deliver) -> None:
        started_s = time.monotonic()
        rows = sum(work.rows for work in batch)
        try:
            outputs = self._executor.run(buffers.join(batch))
            infer_s = time.monotonic() - started_s
            answers = [
                Batched(part, started_s - work.submitted_s, infer_s)
                for work, part in zip(batch, self._split(outputs, batch), strict=True)
            ]
        except Exception as error:  # noqa: BLE001 - whatever a network raises, the thread must live
            self._run_each_alone(batch, buffers, deliver, error)
            return
        deliver(list(zip(batch, answers, strict=True)), rows, infer_s)

    def _split(self, outputs: list[Tensor], batch: Sequence[Work]) -> list[list[Tensor]]:
        """Each request's rows of the outputs; a lone request that filled the run has them as they are."""
        if len(batch) == 1 and self._executor.run_rows(batch[0].rows) == batch[0].rows:
            return [outputs]
        parts, start = [], 0
        for work in batch:
            parts.append([output[start : start + work.rows] for output in outputs])
            start += work.rows
        return parts

    def _run_each_alone(
        self, batch: list[Work], buffers: BatchBuffers, deliver: Deliver, error: Exception
    ) -> None:
        """After a failed batch: one sender's bad values must not cost the others their answers."""
        if len(batch) > 1:
            for work in batch:
                self._run([work], buffers, deliver)
            return
        known = error if isinstance(error, SpilloverError) else ModelError(f"the network failed: {error!r}")
        deliver([(batch[0], known)], 0, 0.0)

    def _deliver(self, answers: list[tuple[Work, Answer]], rows: int, infer_s: float) -> None:
        self._call_on_loop(self._on_loop, answers, rows, infer_s)

    def _call_on_loop(self, callback: Callable[..., None], *args: object) -> None:
        with suppress(RuntimeError):  # the loop is closed: the server has stopped without this thread
            self._loop.call_soon_threadsafe(callback, *args)

    def _on_loop(self, answers: list[tuple[Work, Answer]], rows: int, infer_s: float) -> None:
        for work, answer in answers:
            if work.future.done():
                continue  # its client has left
            if isinstance(answer, Batched):
                work.future.set_result(answer)
            else:
                work.future.set_exception(answer)
        if rows:
            waits = [answer.queue_s for _, answer in answers if isinstance(answer, Batched)]
            self._observer.batch_done(rows, infer_s, waits)
