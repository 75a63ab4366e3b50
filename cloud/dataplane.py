"""From a request to a reply, whatever the transport: decode, admit, batch, run, decode the answer."""

import asyncio
import math
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

from cloud.admission import RateLimiter
from cloud.batcher import Batched, Work
from cloud.call import Call
from cloud.registry import LoadedModel, Registry, require_vision
from common.convert import InferenceReply, InferenceRequest, ServerTimings

T = TypeVar("T")


class Dataplane:
    """Answers requests for pictures. `executor` runs what would hold up the event loop."""

    def __init__(self, registry: Registry, executor: Executor, rate: RateLimiter) -> None:
        self.registry = registry
        self._executor = executor
        self._rate = rate

    @property
    def load(self) -> float:
        """How full the fullest model is: 0 idle, 1 refusing."""
        return max((loaded.admission.load for loaded in self.registry.models()), default=0.0)

    async def infer(self, request: InferenceRequest, call: Call) -> InferenceReply:
        """Answer one frame.

        Raises:
            NotFoundError: no such model is loaded, or it takes no pictures.
            OverloadedError: full, over the device's share or rate, or too slow for the call's deadline.
            DeadlineExpiredError: the call's deadline passed.
            InvalidInputError: the picture cannot be decoded.
            ModelError: the network failed.
        """
        started_s = time.monotonic()
        with self.registry.get(request.model_name, request.model_version).in_use() as loaded:
            vision = require_vision(loaded)
            self._rate.spend(call.device)
            with loaded.admission.place(call.device, call.expires_s):
                tensor, geometry = await self._on_thread(lambda: vision.prepare(request.jpeg))
                decode_s = time.monotonic() - started_s
                loaded.metrics.decode.observe(decode_s)
                batched = await loaded.batcher.run(
                    Work((tensor,), 1, _future(), call.device, 0, _due(request, started_s), call.expires_s)
                )
                prediction = await self._on_thread(lambda: vision.decode(batched.outputs, geometry))
        timings = ServerTimings(decode_s, batched.queue_s, batched.infer_s, time.monotonic() - started_s)
        return InferenceReply(request.frame_id, loaded.model_id, prediction, timings)

    def models(self) -> list[LoadedModel]:
        """What is loaded."""
        return self.registry.models()

    async def _on_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)


def _future() -> "asyncio.Future[Batched]":
    return asyncio.get_running_loop().create_future()


def _due(request: InferenceRequest, now_s: float) -> float:
    """When the frame wants its answer; it orders the queue and refuses nothing: late is a revision."""
    return math.inf if request.time_left_s is None else now_s + request.time_left_s
