"""An executor that is none of ours, served over real gRPC: nothing outside it knows of any runtime."""

import grpc
import numpy as np
import pytest

from spillover.common.model.runtimes.base import Device
from spillover.common.wire.oip import reply_from_pb, request_to_pb
from spillover.common.wire.pb import open_inference_pb2 as pb
from spillover.common.wire.pb import open_inference_pb2_grpc as pb_grpc
from spillover.common.wire.tensors import TensorRequest
from tests.support.executors import Serving, ToyExecutor, named_repository
from tests.support.serving import CALL_S, cloud_config, serving


@pytest.fixture
def toy():
    """Doubles what it gets, in Python, and says that it is on a GPU."""
    executor = ToyExecutor()
    executor.device = Device.GPU
    return executor


@pytest.fixture
def stub(toy, tmp_path):
    """A client of a server with that executor alone."""
    named_repository(tmp_path, "toy")
    with (
        serving(cloud_config(tmp_path), Serving(toy=toy)) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        yield pb_grpc.GRPCInferenceServiceStub(channel)


def test_its_answers_are_served(stub, toy):
    """Requests are checked against its specs, batched, run, and answered by name; unloaded, it stops."""
    rows = np.arange(8, dtype=np.float32).reshape(2, 4)
    reply = stub.ModelInfer(request_to_pb(TensorRequest("toy", {"INPUT0": rows})), timeout=CALL_S)
    np.testing.assert_array_equal(reply_from_pb(reply).outputs["OUTPUT0"], 2 * rows)
    assert [run.shape for run in toy.runs] == [(2, 4)]
    with pytest.raises(grpc.RpcError) as refused:
        stub.ModelInfer(request_to_pb(TensorRequest("toy", {"INPUT0": rows[:, :3]})), timeout=CALL_S)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="toy"), timeout=CALL_S)


def test_it_is_described_as_what_it_is(stub):
    """Platform, backend and device are its own."""
    metadata = stub.ModelMetadata(pb.ModelMetadataRequest(name="toy"), timeout=CALL_S)
    assert (metadata.platform, metadata.inputs[0].datatype) == ("toy_python", "FP32")
    config = stub.ModelConfig(pb.ModelConfigRequest(name="toy"), timeout=CALL_S).config
    assert config.backend == "toy"
    assert config.instance_group[0].kind == pb.ModelInstanceGroup.KIND_GPU


def test_its_failure_is_the_models(stub):
    """INTERNAL, with its words."""
    bad = np.full((1, 4), -1, np.float32)
    with pytest.raises(grpc.RpcError) as failed:
        stub.ModelInfer(request_to_pb(TensorRequest("toy", {"INPUT0": bad})), timeout=CALL_S)
    assert failed.value.code() is grpc.StatusCode.INTERNAL
    assert "a row of -1" in failed.value.details()
