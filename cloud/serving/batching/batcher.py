"""The threads that take batches from the queue and run them.

Threads and not tasks: ONNX Runtime releases the interpreter lock while it computes, so an instance can start
its next batch at once, without waiting for its turn on the event loop. Results go back to the loop in one
call a batch. Nothing a client does reaches these threads: a cancelled future is skipped, never set.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from spillover.cloud.config import BatchingConfig
from spillover.cloud.executors.latency import LatencyModel
from spillover.cloud.serving.batching.buffers import BatchBuffers
from spillover.cloud.serving.batching.queue import FairQueue
from spillover.cloud.serving.batching.window import BatchWindow
from spillover.cloud.serving.batching.work import Batched, Work
from spillover.common.errors import DeadlineExpiredError, ModelError, SpilloverError, UnavailableError
from spillover.common.wire.tensors import Tensor

Answer = Batched | SpilloverError
Deliver = Callable[[list[tuple[Work, Answer]], int, float], None]

_HANDING_OVER_S = 150e-6
"""What two changes of thread cost on a busy server. A run that is over sooner is run where it is."""


class Runner(Protocol):
    """What runs a batch: ONNX Runtime in this process, or another server behind the same method."""

    @property
    def batchable(self) -> bool:
        """Whether rows of several requests may be joined."""
        ...

    @property
    def fixed_rows(self) -> int | None:
        """The one number of rows that a run must have, None when there is no such number."""
        ...

    @property
    def costs(self) -> LatencyModel:
        """What its runs cost."""
        ...

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Run tensors and return tensors; called from several threads. Raises ModelError."""
        ...


class Observer(Protocol):
    """Who wants to know of each batch; called on the event loop."""

    def batch_done(self, rows: int, infer_s: float, queue_s: Sequence[float]) -> None:
        """A batch of `rows` took `infer_s`; its requests had waited `queue_s`."""
        ...


class Batcher:
    """Runs one model's work. Make it on the event loop; `submit` and `stop` belong there too."""

    def __init__(self, runner: Runner, config: BatchingConfig, observer: Observer) -> None:
        self._runner = runner
        self._config = config
        self._observer = observer
        self._max_rows = config.max_batch_size if runner.batchable else runner.fixed_rows or 1
        self._loop = asyncio.get_running_loop()
        self._queue = FairQueue()
        self._arrived_s = 0.0
        self._waking_rows = 1
        self._changed = threading.Condition()
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._serve, name=f"batcher-{number}", daemon=True)
            for number in range(config.instances)
        ]
        for thread in self._threads:
            thread.start()

    async def run(self, work: Work) -> Batched:
        """Queue `work` and wait for its rows.

        Raises:
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
            self._run([work], BatchBuffers(self._max_rows, self._runner.fixed_rows), self._on_loop)
        return await work.future

    def _runs_here(self, work: Work) -> bool:
        """Whether to run `work` on the event loop: nobody is before it, and handing it over costs more."""
        if self._queue.rows or self._config.max_queue_delay_s:
            return False
        return self._runner.costs.expected_s(work.rows) < _HANDING_OVER_S

    async def stop(self) -> None:
        """Finish what is queued, then end the threads."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            await asyncio.to_thread(thread.join)

    def _serve(self) -> None:
        buffers = BatchBuffers(self._max_rows, self._runner.fixed_rows)
        returning = BatchWindow(self._runner.costs, self._max_rows)

        def deliver(answers: list[tuple[Work, Answer]], rows: int, infer_s: float) -> None:
            returning.answered(rows, self._queue.rows)  # before any of them can be back
            self._deliver(answers, rows, infer_s)

        while (batch := self._next_batch(returning)) is not None:
            if batch:
                self._run(batch, buffers, deliver)
                del batch  # an idle instance must not hold the last batch in memory

    def _next_batch(self, returning: BatchWindow) -> list[Work] | None:
        """Wait for work; None when there is none and the batcher stops."""
        with self._changed:
            while not self._queue.rows:
                if self._stopping:
                    return None
                self._changed.wait()
            if self._config.max_queue_delay_s:
                self._wait_for_more()
            else:
                self._wait_for(returning)
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

    def _wait_for(self, returning: BatchWindow) -> None:
        """Wait for the clients just answered, while they come and a run costs more than the wait."""
        self._waking_rows = returning.rows  # not woken for each of them
        while not self._stopping:
            left_s = returning.wait_budget_s(self._queue.rows, self._arrived_s)
            if left_s <= 0:
                break
            self._changed.wait(left_s)
        self._waking_rows = 1

    def _run(self, batch: list[Work], buffers: BatchBuffers, deliver: Deliver) -> None:
        started_s = time.monotonic()
        rows = sum(work.rows for work in batch)
        try:
            outputs = self._runner.run(buffers.join(batch))
            infer_s = time.monotonic() - started_s
            answers = [
                Batched(part, started_s - work.submitted_s, infer_s, rows)
                for work, part in zip(batch, self._split(outputs, batch), strict=True)
            ]
        except Exception as error:  # noqa: BLE001 - whatever a network raises, the thread must live
            self._run_each_alone(batch, buffers, deliver, error)
            return
        deliver(list(zip(batch, answers, strict=True)), rows, infer_s)

    def _split(self, outputs: list[Tensor], batch: Sequence[Work]) -> list[list[Tensor]]:
        """Each request's rows of the outputs; a lone request that filled the run has them as they are."""
        if len(batch) == 1 and self._runner.fixed_rows in (None, batch[0].rows):
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
        self._loop.call_soon_threadsafe(self._on_loop, answers, rows, infer_s)

    def _on_loop(self, answers: list[tuple[Work, Answer]], rows: int, infer_s: float) -> None:
        for work, answer in answers:
            if work.future.done():
                continue  # its client has left; to set it would raise
            if isinstance(answer, Batched):
                work.future.set_result(answer)
            else:
                work.future.set_exception(answer)
        if rows:
            waits = [answer.queue_s for _, answer in answers if isinstance(answer, Batched)]
            self._observer.batch_done(rows, infer_s, waits)
