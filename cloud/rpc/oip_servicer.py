"""inference.GRPCInferenceService over gRPC: each method converts, asks, converts back."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from spillover.cloud.config import LimitsConfig
from spillover.cloud.rpc import oip_describe
from spillover.cloud.rpc.call_wrapper import CallWrapper
from spillover.cloud.rpc.handlers import AnyContext
from spillover.cloud.rpc.oip_stream import answer_stream
from spillover.cloud.rpc.status import status_of
from spillover.cloud.serving.admission import Call
from spillover.cloud.serving.dataplane import Dataplane
from spillover.cloud.serving.readiness import Readiness
from spillover.cloud.serving.workers import LOOP_ELEMENTS, Workers, is_large
from spillover.common.errors import InvalidInputError, NotFoundError, TooLargeError, UnavailableError
from spillover.common.wire.oip import ElementLimits, reply_to_pb, request_from_pb
from spillover.common.wire.pb import open_inference_pb2 as pb
from spillover.common.wire.pb import open_inference_pb2_grpc as pb_grpc
from spillover.common.wire.tensors import TensorRequest

T = TypeVar("T")


class OpenInferenceServicer(pb_grpc.GRPCInferenceServiceServicer):
    """The standard service; see proto/open_inference.proto."""

    def __init__(
        self,
        dataplane: Dataplane,
        wrapper: CallWrapper,
        workers: Workers,
        limits: LimitsConfig,
        draining: asyncio.Event,
        readiness: Readiness,
    ) -> None:
        self._dataplane = dataplane
        self._registry = dataplane.registry
        self._wrapper = wrapper
        self._workers = workers
        self._elements = ElementLimits(limits.max_tensor_elements, limits.max_unpacked_elements)
        self._elements_on_loop = ElementLimits(
            limits.max_tensor_elements, min(limits.max_unpacked_elements, LOOP_ELEMENTS)
        )
        self._max_stream_requests = limits.max_stream_requests
        self._draining = draining
        self._readiness = readiness

    async def ServerLive(self, request: pb.ServerLiveRequest, context: AnyContext) -> pb.ServerLiveResponse:
        """A server that answers is live."""
        return await self._plain(context, "ServerLive", lambda: pb.ServerLiveResponse(live=True))

    async def ServerReady(
        self, request: pb.ServerReadyRequest, context: AnyContext
    ) -> pb.ServerReadyResponse:
        """Not ready while draining, or without a model that was asked for."""
        return await self._plain(
            context, "ServerReady", lambda: pb.ServerReadyResponse(ready=self._readiness.ready)
        )

    async def ModelReady(self, request: pb.ModelReadyRequest, context: AnyContext) -> pb.ModelReadyResponse:
        """A model is ready when it is loaded; one that is not is no error here."""

        def ready() -> bool:
            try:
                self._registry.get(_required(request.name), request.version)
            except NotFoundError:
                return False
            return not self._draining.is_set()

        return await self._plain(context, "ModelReady", lambda: pb.ModelReadyResponse(ready=ready()))

    async def ServerMetadata(
        self, request: pb.ServerMetadataRequest, context: AnyContext
    ) -> pb.ServerMetadataResponse:
        """Name, version, extensions."""
        return await self._plain(context, "ServerMetadata", oip_describe.server_metadata)

    async def ModelMetadata(
        self, request: pb.ModelMetadataRequest, context: AnyContext
    ) -> pb.ModelMetadataResponse:
        """Inputs and outputs of a loaded model."""

        def metadata() -> pb.ModelMetadataResponse:
            loaded = self._registry.get(_required(request.name), request.version)
            return oip_describe.model_metadata(loaded, self._registry.versions(request.name))

        return await self._plain(context, "ModelMetadata", metadata)

    async def ModelConfig(
        self, request: pb.ModelConfigRequest, context: AnyContext
    ) -> pb.ModelConfigResponse:
        """How a loaded model is run."""
        return await self._plain(
            context,
            "ModelConfig",
            lambda: oip_describe.model_config(self._registry.get(_required(request.name), request.version)),
        )

    async def ModelStatistics(
        self, request: pb.ModelStatisticsRequest, context: AnyContext
    ) -> pb.ModelStatisticsResponse:
        """What one model, or each, has done."""

        def statistics() -> pb.ModelStatisticsResponse:
            one = [self._registry.get(request.name, request.version)] if request.name else None
            models = one or self._registry.models()
            return pb.ModelStatisticsResponse(model_stats=map(oip_describe.model_statistics, models))

        return await self._plain(context, "ModelStatistics", statistics)

    async def RepositoryIndex(
        self, request: pb.RepositoryIndexRequest, context: AnyContext
    ) -> pb.RepositoryIndexResponse:
        """What is on disk and what of it is loaded."""

        async def work(_: Call) -> pb.RepositoryIndexResponse:
            listing = self._registry.repository.all_versions
            on_disk = [] if request.ready else await self._workers.run("listing of the repository", listing)
            return oip_describe.repository_index(self._registry, on_disk)

        return await self._wrapper.handle(context, "RepositoryIndex", work)

    async def RepositoryModelLoad(
        self, request: pb.RepositoryModelLoadRequest, context: AnyContext
    ) -> pb.RepositoryModelLoadResponse:
        """Load the newest version on disk; the versions it replaces go when it answers."""

        async def work(_: Call) -> pb.RepositoryModelLoadResponse:
            if request.parameters:
                raise InvalidInputError("models are served from the repository; none can be sent along")
            await self._registry.swap(_required(request.model_name))
            return pb.RepositoryModelLoadResponse()

        return await self._wrapper.handle(context, "RepositoryModelLoad", work)

    async def RepositoryModelUnload(
        self, request: pb.RepositoryModelUnloadRequest, context: AnyContext
    ) -> pb.RepositoryModelUnloadResponse:
        """Unload every version of a model; requests in flight are answered first."""

        async def work(_: Call) -> pb.RepositoryModelUnloadResponse:
            await self._registry.unload(_required(request.model_name))
            return pb.RepositoryModelUnloadResponse()

        return await self._wrapper.handle(context, "RepositoryModelUnload", work)

    async def ModelInfer(self, request: pb.ModelInferRequest, context: AnyContext) -> pb.ModelInferResponse:
        """Run one request."""
        reply, _ = await self._wrapper.handle(
            context, "ModelInfer", self._infer(request), queue_wait_s=lambda answer: answer[1]
        )
        return reply

    async def ModelStreamInfer(
        self, request_iterator: AsyncIterator[pb.ModelInferRequest], context: AnyContext
    ) -> AsyncIterator[pb.ModelStreamInferResponse]:
        """Run the requests of a stream; when the server drains, those that were read."""

        async def infer(request: pb.ModelInferRequest) -> pb.ModelInferResponse:
            reply, _ = await self._wrapper.run(context, "ModelStreamInfer", self._infer(request))
            return reply

        answers = answer_stream(request_iterator, infer, self._max_stream_requests, self._draining)
        try:
            async for response in answers:
                yield response
        except UnavailableError as error:
            await context.abort(status_of(error), str(error))

    def _infer(
        self, request: pb.ModelInferRequest
    ) -> Callable[[Call], Awaitable[tuple[pb.ModelInferResponse, float]]]:
        async def work(call: Call) -> tuple[pb.ModelInferResponse, float]:
            if (tensors := self._unpacked_here(request, call)) is None:
                tensors = await self._workers.run(
                    "unpacking of tensors", request_from_pb, request, self._elements
                )
            reply, queue_s = await self._dataplane.infer_tensors(tensors, call)
            if is_large(reply.outputs.values()):
                return await self._workers.run("packing of tensors", reply_to_pb, reply), queue_s
            return reply_to_pb(reply), queue_s

        return work

    def _unpacked_here(self, request: pb.ModelInferRequest, call: Call) -> TensorRequest | None:
        """The request's value; None when it is too large for the event loop, or altogether."""
        if call.is_large:
            return None
        try:
            return request_from_pb(request, self._elements_on_loop)
        except TooLargeError:
            return None

    async def _plain(self, context: AnyContext, method: str, ask: Callable[[], T]) -> T:
        """A method that waits for nothing."""

        async def work(_: Call) -> T:
            return ask()

        return await self._wrapper.handle(context, method, work)


def _required(name: str) -> str:
    if not name:
        raise InvalidInputError("the model's name is empty")
    return name
