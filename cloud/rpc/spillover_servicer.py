"""spillover.v1.Spillover over gRPC: each method converts, asks the data plane, converts back."""

from spillover.cloud.rpc.call_wrapper import CallWrapper
from spillover.cloud.rpc.handlers import AnyContext
from spillover.cloud.serving.admission import Call
from spillover.cloud.serving.dataplane import Dataplane
from spillover.cloud.serving.workers import Workers
from spillover.common.wire.conversion import reply_to_pb, request_from_pb
from spillover.common.wire.pb import spillover_pb2 as pb
from spillover.common.wire.pb import spillover_pb2_grpc as pb_grpc


class SpilloverServicer(pb_grpc.SpilloverServicer):
    """Our own service; see proto/spillover.proto."""

    def __init__(self, dataplane: Dataplane, wrapper: CallWrapper, workers: Workers) -> None:
        self._dataplane = dataplane
        self._wrapper = wrapper
        self._workers = workers

    async def Infer(self, request: pb.InferRequest, context: AnyContext) -> pb.InferReply:
        """Answer one frame."""

        async def work(call: Call) -> tuple[pb.InferReply, float]:
            asked = await self._workers.run_if(call.is_large, "reading of a frame", request_from_pb, request)
            reply = await self._dataplane.infer(asked, call)
            return reply_to_pb(reply, request.max_classes), reply.timings.queue_s

        reply, _ = await self._wrapper.handle(
            context, "Infer", work, claimed_device=request.device_id, queue_wait_s=lambda answer: answer[1]
        )
        return reply

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
