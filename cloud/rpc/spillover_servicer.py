"""spillover.v1.Spillover over gRPC: each method converts, asks the data plane, converts back."""

from spillover.cloud.rpc.call import ServedCall
from spillover.cloud.serving.dataplane import Dataplane
from spillover.cloud.serving.workers import Workers
from spillover.common.wire.conversion import reply_to_pb, request_from_pb
from spillover.common.wire.pb import spillover_pb2 as pb


class SpilloverServicer:
    """Our own service; see proto/spillover.proto."""

    def __init__(self, dataplane: Dataplane, workers: Workers) -> None:
        self._dataplane = dataplane
        self._workers = workers

    async def Infer(self, request: pb.InferRequest, served: ServedCall) -> pb.InferReply:
        """Answer one frame."""
        served.payload = request.WhichOneof("payload") or ""
        call = served.of_device(request.device_id)
        asked = await self._workers.run_if(call.is_large, "reading of a frame", request_from_pb, request)
        max_classes = request.max_classes
        del request  # its payload has been copied
        reply = await self._dataplane.infer(asked, call)
        served.timings, served.queue_wait_s = reply.timings, reply.timings.queue_s
        return reply_to_pb(reply, max_classes)

    async def ListModels(self, request: pb.ListModelsRequest, served: ServedCall) -> pb.ListModelsReply:
        """List the loaded vision models."""
        return pb.ListModelsReply(
            models=[
                pb.ModelInfo(
                    model=pb.ModelRef(name=loaded.model_id.name, version=loaded.model_id.version),
                    task=loaded.vision.manifest.task,
                    is_default=loaded.model_id.name == self._dataplane.registry.default,
                    input_width=loaded.vision.input_sides[0],
                    input_height=loaded.vision.input_sides[1],
                )
                for loaded in self._dataplane.models()
                if loaded.has_vision
            ]
        )
