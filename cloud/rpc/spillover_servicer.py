"""spillover.v1.Spillover over gRPC: each method converts, asks the data plane, converts back."""

from spillover.cloud.rpc.call_wrapper import CallWrapper
from spillover.cloud.rpc.identity import AnyContext
from spillover.cloud.serving.call import Call
from spillover.cloud.serving.dataplane import Dataplane
from spillover.common.wire.conversion import InferenceReply, reply_to_pb, request_from_pb
from spillover.common.wire.pb import spillover_pb2 as pb
from spillover.common.wire.pb import spillover_pb2_grpc as pb_grpc


class SpilloverServicer(pb_grpc.SpilloverServicer):
    """Our own service; see proto/spillover.proto."""

    def __init__(self, dataplane: Dataplane, wrapper: CallWrapper) -> None:
        self._dataplane = dataplane
        self._wrapper = wrapper

    async def Infer(self, request: pb.InferRequest, context: AnyContext) -> pb.InferReply:
        """Answer one frame."""

        async def work(call: Call) -> InferenceReply:
            return await self._dataplane.infer(request_from_pb(request), call)

        reply = await self._wrapper.handle(
            context,
            "Infer",
            work,
            claimed_device=request.device_id,
            queue_wait_s=lambda reply: reply.timings.queue_s,
        )
        return reply_to_pb(reply, request.max_classes)

    async def ListModels(self, request: pb.ListModelsRequest, context: AnyContext) -> pb.ListModelsReply:
        """List the loaded vision models."""

        async def work(_: Call) -> pb.ListModelsReply:
            return pb.ListModelsReply(
                models=[
                    pb.ModelInfo(
                        model=pb.ModelRef(name=loaded.model_id.name, version=loaded.model_id.version),
                        task=loaded.vision.manifest.task,
                        is_default=loaded.model_id.name == self._dataplane.registry.default,
                    )
                    for loaded in self._dataplane.models()
                    if loaded.has_vision
                ]
            )

        return await self._wrapper.handle(context, "ListModels", work)
