"""A real gRPC server on loopback whose every answer is scripted by the test."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue
from typing import NoReturn

import grpc

from spillover.common.wire.pb import spillover_pb2 as pb
from spillover.common.wire.pb import spillover_pb2_grpc as pb_grpc

Behaviour = Callable[[pb.InferRequest, grpc.ServicerContext], pb.InferReply]

PATIENCE_S = 60.0
"""Bounds every wait of a test; reached only by one that fails."""


def classes(request: pb.InferRequest, *class_id: int) -> pb.InferReply:
    """A classification with falling probabilities."""
    probability = [0.9 / 2**rank for rank in range(len(class_id))]
    return pb.InferReply(
        frame_id=request.frame_id,
        model=pb.ModelRef(name="big", version="7"),
        classification=pb.Classification(class_id=class_id, probability=probability),
        timings=pb.ServerTimings(queue_us=3, decode_us=2, infer_us=4, total_us=10),
    )


def answers(request: pb.InferRequest, _: grpc.ServicerContext) -> pb.InferReply:
    """Class 2, at once."""
    return classes(request, 2, 1, 0)


def boxes(request: pb.InferRequest, _: grpc.ServicerContext) -> pb.InferReply:
    """One box of class 3, of confidence 0.8, in pixels of what was sent."""
    found = pb.Detections(xyxy=[10, 20, 50, 60], confidence=[0.8], class_id=[3])
    return pb.InferReply(
        frame_id=request.frame_id, model=pb.ModelRef(name="big", version="7"), detections=found
    )


def refuses(
    code: grpc.StatusCode, text: str = "scripted", trailing: tuple[tuple[str, str], ...] = ()
) -> Behaviour:
    """Every call ends with this status and trailing metadata."""

    def behave(_: pb.InferRequest, context: grpc.ServicerContext) -> NoReturn:
        context.set_trailing_metadata(trailing)
        context.abort(code, text)

    return behave


class Held:
    """Answers only once `release` is set; `arrived` tells that a call is inside."""

    def __init__(self, then: Behaviour = answers) -> None:
        self.release = threading.Event()
        self.arrived: SimpleQueue[str] = SimpleQueue()
        self._then = then

    def __call__(self, request: pb.InferRequest, context: grpc.ServicerContext) -> pb.InferReply:
        """Tell of the call, wait, then behave."""
        self.arrived.put(request.frame_id)
        assert self.release.wait(PATIENCE_S), "the test never let go"
        return self._then(request, context)


class ScriptedCloud(pb_grpc.SpilloverServicer):
    """Does as `behaviour` says, which a test may exchange at any time; keeps the requests."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.requests: list[pb.InferRequest] = []
        self.address = ""

    def Infer(self, request: pb.InferRequest, context: grpc.ServicerContext) -> pb.InferReply:  # noqa: N802
        """Keep the request, then behave."""
        self.requests.append(request)
        return self.behaviour(request, context)

    def ListModels(self, request: pb.ListModelsRequest, context: grpc.ServicerContext) -> pb.ListModelsReply:  # noqa: N802
        """It lists none."""
        del request, context
        return pb.ListModelsReply()


@contextmanager
def scripted_cloud(behaviour: Behaviour = answers) -> Iterator[ScriptedCloud]:
    """Serve on a free port while inside."""
    cloud = ScriptedCloud(behaviour)
    pool = ThreadPoolExecutor(8)
    server = grpc.server(pool)
    pb_grpc.add_SpilloverServicer_to_server(cloud, server)
    cloud.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield cloud
    finally:
        if isinstance(cloud.behaviour, Held):
            cloud.behaviour.release.set()
        server.stop(None).wait(PATIENCE_S)
        pool.shutdown()


def no_server_address() -> str:
    """An address on loopback where nobody listens: port 1 (tcpmux) is not to be had without privileges."""
    return "127.0.0.1:1"
