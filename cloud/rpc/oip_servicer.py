"""inference.GRPCInferenceService over gRPC: each method converts, asks, converts back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

from spillover.cloud.config import LimitsConfig
from spillover.cloud.rpc import oip_describe
from spillover.cloud.rpc.call import ServedCall
from spillover.cloud.rpc.call_wrapper import CallWrapper
from spillover.cloud.rpc.oip_stream import answer_stream
from spillover.cloud.rpc.receiving import Incoming
from spillover.cloud.serving.admission import Call
from spillover.cloud.serving.dataplane import Dataplane
from spillover.cloud.serving.readiness import Readiness
from spillover.cloud.serving.workers import LOOP_ELEMENTS, Workers, is_large
from spillover.common.errors import InvalidInputError, NotFoundError, TooLargeError
from spillover.common.wire.oip import ElementLimits, check_name, reply_to_pb, request_from_pb
from spillover.common.wire.pb import open_inference_pb2 as pb
from spillover.common.wire.tensors import TensorRequest


class OpenInferenceServicer:
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

    async def ServerLive(self, request: pb.ServerLiveRequest, served: ServedCall) -> pb.ServerLiveResponse:
        """A server that answers is live."""
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, request: pb.ServerReadyRequest, served: ServedCall) -> pb.ServerReadyResponse:
        """Not ready while draining, or without a model that was asked for."""
        return pb.ServerReadyResponse(ready=self._readiness.ready)

    async def ModelReady(self, request: pb.ModelReadyRequest, served: ServedCall) -> pb.ModelReadyResponse:
        """A model is ready when it is loaded; one that is not is no error here."""
        try:
            self._registry.get(_required(request.name), request.version)
        except NotFoundError:
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=not self._draining.is_set())

    async def ServerMetadata(
        self, request: pb.ServerMetadataRequest, served: ServedCall
    ) -> pb.ServerMetadataResponse:
        """Name, version, extensions."""
        return oip_describe.server_metadata()

    async def ModelMetadata(
        self, request: pb.ModelMetadataRequest, served: ServedCall
    ) -> pb.ModelMetadataResponse:
        """Inputs and outputs of a loaded model."""
        loaded = self._registry.get(_required(request.name), request.version)
        return oip_describe.model_metadata(loaded, self._registry.versions(request.name))

    async def ModelConfig(self, request: pb.ModelConfigRequest, served: ServedCall) -> pb.ModelConfigResponse:
        """How a loaded model is run."""
        return oip_describe.model_config(self._registry.get(_required(request.name), request.version))

    async def ModelStatistics(
        self, request: pb.ModelStatisticsRequest, served: ServedCall
    ) -> pb.ModelStatisticsResponse:
        """What one model, or each, has done."""
        one = [self._registry.get(request.name, request.version)] if request.name else None
        models = one or self._registry.models()
        return pb.ModelStatisticsResponse(model_stats=map(oip_describe.model_statistics, models))

    async def RepositoryIndex(
        self, request: pb.RepositoryIndexRequest, served: ServedCall
    ) -> pb.RepositoryIndexResponse:
        """What is on disk and what of it is loaded."""
        listing = self._registry.repository.all_versions
        on_disk = [] if request.ready else await self._workers.run("listing of the repository", listing)
        return oip_describe.repository_index(self._registry, on_disk)

    async def RepositoryModelLoad(
        self, request: pb.RepositoryModelLoadRequest, served: ServedCall
    ) -> pb.RepositoryModelLoadResponse:
        """Load the newest version on disk; the versions it replaces go when it answers."""
        if request.parameters:
            raise InvalidInputError("models are served from the repository; none can be sent along")
        await self._registry.swap(_required(request.model_name), served.by)
        return pb.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(
        self, request: pb.RepositoryModelUnloadRequest, served: ServedCall
    ) -> pb.RepositoryModelUnloadResponse:
        """Unload every version of a model; requests in flight are answered first."""
        await self._registry.unload(_required(request.model_name), served.by)
        return pb.RepositoryModelUnloadResponse()

    async def ModelInfer(self, request: pb.ModelInferRequest, served: ServedCall) -> pb.ModelInferResponse:
        """Run one request."""
        tensors = await self._tensors(request, call := served.admitted(served.received_bytes))
        del request  # its tensors have been copied
        reply, served.queue_wait_s = await self._dataplane.infer_tensors(tensors, call)
        if is_large(reply.outputs.values()):
            return await self._workers.run("packing of tensors", reply_to_pb, reply)
        return reply_to_pb(reply)

    async def ModelStreamInfer(
        self, requests: AsyncIterator[Incoming], served: ServedCall
    ) -> AsyncIterator[pb.ModelStreamInferResponse]:
        """Run the requests of a stream; when the server drains, those that were read."""

        async def infer(incoming: Incoming) -> pb.ModelInferResponse:
            return await self._wrapper.message(served, incoming, self.ModelInfer)

        answers = answer_stream(requests, infer, self._max_stream_requests, self._draining)
        async with aclosing(answers):
            async for response in answers:
                yield response

    async def _tensors(self, request: pb.ModelInferRequest, call: Call) -> TensorRequest:
        """The request's value, on the event loop unless it is too large for that."""
        if not call.is_large:
            try:
                return request_from_pb(request, self._elements_on_loop)
            except TooLargeError:  # for the event loop, or altogether
                pass
        return await self._workers.run("unpacking of tensors", request_from_pb, request, self._elements)


def _required(name: str) -> str:
    if not name:
        raise InvalidInputError("the model's name is empty")
    check_name(name)
    return name
