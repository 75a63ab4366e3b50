"""From a request to a reply, whatever the transport: admit, decode, batch, run, decode the answer."""

import math
import time
import zlib
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial

import msgspec
from prometheus_client import Counter

from spillover.cloud.models.tails import TailAdapter
from spillover.cloud.models.vision import Adapter, Undecoded
from spillover.cloud.serving.admission import Call
from spillover.cloud.serving.decoding import Decoding
from spillover.cloud.serving.registry import Registry
from spillover.cloud.serving.reply_cache import ReplyCache, key_of
from spillover.cloud.serving.served_model import ServedModel
from spillover.cloud.serving.signature import bind_inputs
from spillover.cloud.serving.streams.streams import Streams
from spillover.cloud.serving.workers import LOOP_BYTES, LOOP_ELEMENTS, Workers
from spillover.common.errors import InvalidInputError
from spillover.common.model.pictures import Prepared
from spillover.common.wire.conversion import InferenceReply, InferenceRequest, ServerTimings
from spillover.common.wire.tensors import TensorReply, TensorRequest

_UNSAID_PRIORITY = 2**63
"""After every priority that a request can name."""


class Dataplane:
    """Answers requests for pictures and for tensors.

    `workers` run what would hold up the event loop, `decoding` gives payloads their turn there, `streams`
    keeps what they are coded against. `repeated` counts the requests that are answered from memory.
    """

    def __init__(
        self, registry: Registry, workers: Workers, decoding: Decoding, streams: Streams, repeated: Counter
    ) -> None:
        self.registry = registry
        self._workers = workers
        self._decoding = decoding
        self._streams = streams
        self._replies = ReplyCache()
        self._repeated = repeated

    @property
    def load(self) -> float:
        """How full the fullest model is: 0 idle, 1 refusing."""
        return self.registry.load_share

    def models(self) -> list[ServedModel]:
        """What is loaded."""
        return self.registry.models()

    async def infer(self, request: InferenceRequest, call: Call) -> InferenceReply:
        """Answer one frame.

        Raises:
            NotFoundError: no such model is loaded, or it takes no pictures.
            OverloadedError: full, over the caller's share, or too slow for the call's deadline.
            DeadlineExpiredError: the call's deadline passed.
            InvalidInputError: the picture or the features cannot be decoded.
            SplitMismatchError: the features are of a head whose tail is not loaded.
            ReferenceLostError: what the payload is coded against is not held here.
            StreamRefusedError: no stream may begin now.
            InputRefusedError: the network cannot compute with these values.
            ModelError: the network failed.
        """
        started_s = time.monotonic()
        # The frame's own deadline orders the queue and refuses nothing: a late answer is a revision.
        due_s = math.inf if request.time_left_s is None else started_s + request.time_left_s
        loaded = self.registry.get(request.model_name, request.model_version)
        parts = _parts_of(request)
        key = key_of(request, call.device, loaded.model_id)
        if self._replies.knows(key) and (known := self._replies.get(key, await self._checksum(parts))):
            self._repeated.inc()
            return replace(known, frame_id=request.frame_id)
        adapter, runner = loaded.route(request.features)
        with loaded.in_use(), runner.answering(call):
            with self._looking(request, call, adapter, loaded) as undecoded:
                (inputs, placements), checksum = await self._decoding.run(
                    f"decoding for {loaded.model_id}",
                    call,
                    undecoded,
                    partial(_prepare, undecoded, parts, remembered=key is not None),
                )
            decode_s = time.monotonic() - started_s
            runner.decoded(decode_s)
            batched = await runner.run(inputs, 1, call, due_s=due_s)
            ran_s = time.monotonic()
            prediction = await self._workers.run_if(
                sum(output.size for output in batched.outputs) > LOOP_ELEMENTS,
                f"reading of outputs of {loaded.model_id}",
                adapter.decode,
                batched.outputs,
                placements,
            )
            done_s = time.monotonic()
            runner.predicted(prediction)
            runner.statistics.answered(
                input_s=decode_s,
                queue_s=batched.queue_s,
                infer_s=batched.infer_s,
                output_s=done_s - ran_s,
            )
        timings = ServerTimings(decode_s, batched.queue_s, batched.infer_s, done_s - started_s)
        reply = InferenceReply(request.frame_id, loaded.model_id, prediction, timings)
        self._replies.remember(key, checksum, reply)
        return reply

    async def infer_tensors(self, request: TensorRequest, call: Call) -> tuple[TensorReply, float]:
        """Answer one request for a network itself; gives the reply and the seconds it waited for its batch.

        Raises:
            NotFoundError, OverloadedError, DeadlineExpiredError, InputRefusedError, ModelError: as `infer`.
            InvalidInputError: the tensors are not those that the network takes, or it has no such output.
        """
        started_s = time.monotonic()
        loaded = self.registry.get(_named(request), request.model_version)
        inputs, rows = bind_inputs(loaded.executor.specs, request)
        arranged_s = time.monotonic()
        if request.timeout_s is not None:
            expires_s = min(call.expires_s, arranged_s + request.timeout_s)
            call = msgspec.structs.replace(call, expires_s=expires_s)
        priority = request.priority or _UNSAID_PRIORITY
        with loaded.answering(call):
            batched = await loaded.run(inputs, rows, call, due_s=call.expires_s, priority=priority)
            ran_s = time.monotonic()
            outputs = loaded.executor.specs.named(batched.outputs, request.outputs)
            loaded.statistics.answered(
                input_s=arranged_s - started_s,
                queue_s=batched.queue_s,
                infer_s=batched.infer_s,
                output_s=time.monotonic() - ran_s,
            )
        reply = TensorReply(loaded.model_id.name, loaded.model_id.version, outputs, request.request_id)
        return reply, batched.queue_s

    def _looking(
        self, request: InferenceRequest, call: Call, adapter: Adapter, loaded: ServedModel
    ) -> AbstractContextManager[Undecoded]:
        """The payload, not decoded yet; what it is coded against is kept while inside."""
        if request.video:
            return self._streams.looking(request.video, call, loaded.vision)
        if request.features and isinstance(adapter, TailAdapter):
            return self._streams.looking_at_features(request.features, call, adapter)
        return nullcontext(adapter.look(request.jpeg))

    async def _checksum(self, parts: Sequence[bytes]) -> int:
        return await self._workers.run_if(sum(map(len, parts)) > LOOP_BYTES, "checksum", _checksum_of, parts)


def _parts_of(request: InferenceRequest) -> Sequence[bytes]:
    """What tells a payload from another one of the same frame."""
    if video := request.video:
        return (repr((video.position, video.width, video.height)).encode(), *video.packets)
    if features := request.features:
        return (repr(features.position).encode(), features.data)
    return (request.jpeg,)


def _checksum_of(parts: Sequence[bytes]) -> int:
    checksum = 0
    for part in parts:
        checksum = zlib.crc32(part, checksum)
    return checksum


def _prepare(undecoded: Undecoded, parts: Sequence[bytes], *, remembered: bool) -> tuple[Prepared, int]:
    """The network's input, and the payload's checksum where the reply is to be remembered."""
    return undecoded.prepare(), _checksum_of(parts) if remembered else 0


def _named(request: TensorRequest) -> str:
    if not request.model_name:
        raise InvalidInputError("model_name is empty")
    return request.model_name
