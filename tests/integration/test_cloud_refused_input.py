"""What a network cannot compute with is its sender's fault, and nobody else's."""

import asyncio

import grpc
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from spillover.common.wire.oip import request_to_pb
from spillover.common.wire.pb import open_inference_pb2 as pb
from spillover.common.wire.pb import open_inference_pb2_grpc as pb_grpc
from spillover.common.wire.tensors import TensorRequest
from tests.support.models import colour_classifier, fragile_classifier, save_network
from tests.support.serving import CALL_S, cloud_config, jpeg_of, request_for, serving, stub_of


def lookup(repository, rows, name="lookup"):
    """A table of `rows` numbers, each its own index: INPUT0 (N, 1) says which."""
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "INPUT0"], ["OUTPUT0"])],
        "lookup",
        [helper.make_tensor_value_info("INPUT0", TensorProto.INT64, ["N", 1])],
        [helper.make_tensor_value_info("OUTPUT0", TensorProto.FLOAT, ["N", 1])],
        [numpy_helper.from_array(np.arange(rows, dtype=np.float32), "table")],
    )
    return save_network(graph, repository / name / "1")


def asking(index):
    """A request for one row."""
    return request_to_pb(TensorRequest("lookup", {"INPUT0": np.array([[index]], np.int64)}))


def test_an_index_out_of_range_is_invalid_and_costs_the_neighbours_nothing(tmp_path):
    """Of one batch, one row cannot be computed: its sender hears so, all others have their answers."""
    lookup(tmp_path, 4)
    config = cloud_config(tmp_path, batching={"max_queue_delay_s": 0.5, "max_batch_size": 4})

    async def one(stub, index):
        try:
            return (await stub.ModelInfer(asking(index), timeout=CALL_S)).raw_output_contents[0]
        except grpc.aio.AioRpcError as error:
            return error

    async def together(address):
        async with grpc.aio.insecure_channel(address) as channel:
            stub = pb_grpc.GRPCInferenceServiceStub(channel)
            return await asyncio.gather(*(one(stub, index) for index in (1, 99, 2, 3)))

    with serving(config) as server:
        first, refused, *others = asyncio.run(together(server.address))
        assert [np.frombuffer(raw, np.float32) for raw in (first, *others)] == [1.0, 2.0, 3.0]
        assert refused.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "out of data bounds" in refused.details()
        (served,) = server.registry.models()
        assert served.statistics.fail.count == 1
        assert served.statistics.success.count == 3


def test_want_of_memory_is_not_blamed_on_the_sender(tmp_path):
    """What the machine lacks is INTERNAL, although it was a picture that asked for it."""
    fragile_classifier(tmp_path, "memory")
    with serving(cloud_config(tmp_path)) as server, stub_of(server) as stub:
        with pytest.raises(grpc.RpcError) as failed:
            stub.Infer(request_for(jpeg_of((0, 0, 255)), "fragile"), timeout=CALL_S)
        assert failed.value.code() is grpc.StatusCode.INTERNAL
        assert (
            stub.Infer(request_for(jpeg_of((255, 0, 0)), "fragile"), timeout=CALL_S).model.name == "fragile"
        )


def test_a_network_that_fails_on_what_it_is_warmed_with_is_a_broken_model(tmp_path):
    """Nobody has sent that: who asked to load it is not to blame for its values."""
    colour_classifier(tmp_path)
    models = {"repository": str(tmp_path), "load": ["colour"]}
    with (
        serving(cloud_config(tmp_path, models=models)) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        lookup(tmp_path, 0, "empty")
        operator = pb_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError) as failed:
            operator.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="empty"), timeout=CALL_S)
        assert failed.value.code() is grpc.StatusCode.INTERNAL
