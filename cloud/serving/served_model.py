"""One version in memory: its executor, adapter, admission, batcher and figures."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from spillover.cloud.config import BatchingConfig
from spillover.cloud.models.loader import OpenedModel
from spillover.cloud.models.tails import TailAdapter
from spillover.cloud.models.vision import Adapter, Vision
from spillover.cloud.serving.admission import Admission, Call
from spillover.cloud.serving.batching import Batched, Batcher, Work
from spillover.cloud.serving.stopping import finished_by
from spillover.cloud.serving.workers import Workers
from spillover.cloud.telemetry.metrics import ModelMetrics
from spillover.cloud.telemetry.statistics import Statistics
from spillover.common.errors import NotFoundError, SplitMismatchError
from spillover.common.log import get_logger
from spillover.common.types import ModelId, Prediction, Tensor
from spillover.common.wire.conversion import Features

_log = get_logger("model")


class ServedModel:
    """A version that answers. Belongs to the event loop."""

    def __init__(
        self,
        model_id: ModelId,
        opened: OpenedModel,
        batching: BatchingConfig,
        metrics: ModelMetrics,
    ) -> None:
        self.model_id = model_id
        self.executor = opened.executor
        self.batching = batching
        self.admission = Admission(batching)
        self.statistics = Statistics()
        self.users = 0
        self.unused = asyncio.Event()
        self.unused.set()
        self._vision = opened.vision
        self._metrics = metrics
        self._told_of_boxes = False
        self._batcher = Batcher(opened.executor, batching, self)
        self._tails = {
            head: ServedTail(
                tail.adapter, ServedModel(model_id, OpenedModel(tail.executor), batching, metrics)
            )
            for head, tail in opened.tails.items()
        }

    @property
    def vision(self) -> Vision:
        """The vision part. Raises NotFoundError when the model takes tensors alone."""
        if self._vision is None:
            raise NotFoundError(f"model {self.model_id} takes tensors, not pictures: it has no model.yaml")
        return self._vision

    def route(self, features: Features | None) -> "tuple[Adapter, ServedModel]":
        """What answers a picture (None) or features: an adapter, and the model that admits and runs.

        Raises:
            NotFoundError: the model takes tensors alone.
            SplitMismatchError: the features are of a head whose tail is not here.
        """
        if features is None:
            return self.vision, self
        if (tail := self._tails.get(features.head_sha256)) is None:
            raise SplitMismatchError(
                f"model {self.model_id} has no tail for head {features.head_sha256[:12]}; "
                f"{len(self._tails)} of its heads are known here; send the picture"
            )
        return tail.adapter, tail.runner

    @property
    def load(self) -> float:
        """How full it is, its fullest tail included: 0 idle, 1 refusing."""
        if not self._tails:
            return self.admission.load
        return max(self.admission.load, *(tail.runner.load for tail in self._tails.values()))

    @property
    def has_vision(self) -> bool:
        """Whether the model takes pictures."""
        return self._vision is not None

    @property
    def max_batch_size(self) -> int:
        """Most rows that requests are joined to; 0 when the first axis is no batch axis."""
        return self.batching.max_batch_size if self.executor.specs.batchable else 0

    @contextmanager
    def answering(self, call: Call) -> Iterator[None]:
        """One request from its admission to its answer.

        Raises:
            OverloadedError: there is no place for it now.
            DeadlineExpiredError: its call has ended already.
        """
        started_s = time.monotonic()
        outcome = self.statistics.fail
        try:
            with self.in_use(), self.admission.place(call.holder, call.expires_s):
                yield
            outcome = self.statistics.success
        finally:
            outcome.add(time.monotonic() - started_s)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """While inside, the model and its tails are not stopped."""
        self.users += 1
        self.unused.clear()
        try:
            yield
        finally:
            self.users -= 1
            if not self.users:
                self.unused.set()

    async def run(
        self, inputs: Sequence[Tensor], rows: int, call: Call, *, due_s: float, priority: int = 0
    ) -> Batched:
        """Have the batcher run `inputs` of `rows` rows; see `Work` for the order."""
        future = asyncio.get_running_loop().create_future()
        work = Work(inputs, rows, future, call.holder, priority, due_s, call.expires_s)
        return await self._batcher.run(work)

    async def stop(self, deadline_s: float, workers: Workers) -> bool:
        """Finish what is queued and free the networks; False when a run hangs beyond `deadline_s`."""
        tails = [tail.runner.stop(deadline_s, workers) for tail in self._tails.values()]
        if not all(await asyncio.gather(self._batcher.stop(deadline_s), *tails)):
            return False
        freeing = asyncio.ensure_future(
            workers.run(f"freeing of {self.model_id}", self.executor.stop, deadline_s)
        )
        return await finished_by(deadline_s, freeing) and freeing.result()

    def predicted(self, prediction: Prediction) -> None:
        """The network gave `prediction`; boxes that it lacks are counted, and logged the first time."""
        if prediction.boxes is None or not (count := prediction.boxes.not_finite):
            return
        self._metrics.boxes_dropped.inc(count)
        if not self._told_of_boxes:
            self._told_of_boxes = True
            text = "model gives boxes that are not finite; they are left out"
            _log.error(text, model=str(self.model_id), boxes=count)

    def decoded(self, seconds: float) -> None:
        """A request's payload took `seconds` to become a tensor."""
        self._metrics.decode.observe(seconds)

    def batch_done(self, rows: int, infer_s: float, queue_s: Sequence[float]) -> None:
        """The batcher's report of one run."""
        self.admission.measured(rows, infer_s)
        self.statistics.batch_done(rows, infer_s)
        self._metrics.batch_done(rows, infer_s, queue_s)


@dataclass(frozen=True, slots=True)
class ServedTail:
    """The tail of one cut: its adapter, and what admits, batches and runs."""

    adapter: TailAdapter
    runner: ServedModel
