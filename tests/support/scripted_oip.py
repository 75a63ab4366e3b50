"""A real server of the Open Inference Protocol on loopback whose every answer is scripted by the test."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import numpy as np

from spillover.common.types import Tensor
from spillover.common.wire.oip import reply_to_pb, request_from_pb
from spillover.common.wire.pb import open_inference_pb2 as pb
from spillover.common.wire.pb import open_inference_pb2_grpc as pb_grpc
from spillover.common.wire.tensors import TensorReply, TensorRequest
from tests.support.scripted_cloud import PATIENCE_S

Reply = pb.ModelInferResponse
Behaviour = Callable[[TensorRequest], Reply]


class RefusedError(Exception):
    """A behaviour's wish to end the call with FAILED_PRECONDITION."""


def gives(outputs: dict[str, Tensor], **fields: str) -> Behaviour:
    """A reply with these outputs, and the request's id unless `request_id` says otherwise."""

    def behave(request: TensorRequest) -> Reply:
        told = {"model_name": "big", "model_version": "7", "request_id": request.request_id} | fields
        return reply_to_pb(TensorReply(outputs=outputs, **told))

    return behave


def logits(*values: float) -> dict[str, Tensor]:
    """One row of logits."""
    return {"logits": np.array([values], np.float32)}


class ScriptedOip(pb_grpc.GRPCInferenceServiceServicer):
    """Does as `behaviour` says; keeps the requests."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.requests: list[TensorRequest] = []
        self.address = ""

    def ModelInfer(self, request: pb.ModelInferRequest, context: grpc.ServicerContext) -> Reply:  # noqa: N802
        """Keep the request, then behave."""
        self.requests.append(request_from_pb(request))
        try:
            return self.behaviour(self.requests[-1])
        except RefusedError:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "scripted")


@contextmanager
def scripted_oip(behaviour: Behaviour) -> Iterator[ScriptedOip]:
    """Serve on a free port while inside."""
    cloud = ScriptedOip(behaviour)  # type: ignore[abstract] # the other methods answer UNIMPLEMENTED
    pool = ThreadPoolExecutor(4)
    server = grpc.server(pool)
    pb_grpc.add_GRPCInferenceServiceServicer_to_server(cloud, server)
    cloud.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield cloud
    finally:
        server.stop(None).wait(PATIENCE_S)
        pool.shutdown()
