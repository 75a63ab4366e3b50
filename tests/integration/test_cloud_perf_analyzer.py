"""perf_analyzer drives the server: its exact calls, and the program itself where it is installed.

The program comes with the wheel `perf-analyzer` (2.60 or newer) and needs glibc 2.38. Its exit code is 0
whatever happens, so its output is judged.
"""

import re
import shutil
import subprocess

import grpc
import numpy as np
import pytest
from onnx import TensorProto

from spillover.common.wire.pb import open_inference_pb2 as pb
from spillover.common.wire.pb import open_inference_pb2_grpc as pb_grpc
from tests.support.models import colour_classifier, identity, lookup
from tests.support.serving import CALL_S, cloud_config, jpeg_of, request_for, serving, stub_of

_LIMIT_S = 120.0
_REQUESTS = 30
_STAGES = ("queue", "compute_input", "compute_infer", "compute_output")
ELEMENTS = ("FLOAT", "FLOAT16", "INT8", "UINT64", "BOOL", "STRING")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server with networks of several element types, and a vision model."""
    repository = tmp_path_factory.mktemp("repository")
    for element in ELEMENTS:
        identity(repository, element.lower(), element=getattr(TensorProto, element))
    colour_classifier(repository)
    lookup(repository)
    with serving(cloud_config(repository)) as running:
        yield running


@pytest.fixture
def stub(server):
    """The protocol's own stub: perf_analyzer is no tritonclient."""
    with grpc.insecure_channel(server.address) as channel:
        yield pb_grpc.GRPCInferenceServiceStub(channel)


def _statistics(stub, model: str) -> pb.ModelStatistics:
    (found,) = stub.ModelStatistics(pb.ModelStatisticsRequest(name=model), timeout=CALL_S).model_stats
    return found


def _counts(found: pb.ModelStatistics) -> set[int]:
    return {getattr(found.inference_stats, stage).count for stage in _STAGES}


def _request(model: str, values: np.ndarray, request_id: str = "") -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name=model, id=request_id)
    request.parameters["triton_enable_empty_final_response"].bool_param = True
    request.inputs.add(name="INPUT0", datatype="FP32", shape=values.shape)
    request.outputs.add(name="OUTPUT0")
    request.raw_input_contents.append(values.astype("<f4").tobytes())
    return request


def test_its_calls_one_after_the_other(stub):
    """Metadata, configuration, server, statistics, requests without an id, statistics: each is answered."""
    metadata = stub.ModelMetadata(pb.ModelMetadataRequest(name="float"), timeout=CALL_S)
    assert [(one.name, one.datatype, list(one.shape)) for one in metadata.inputs] == [
        ("INPUT0", "FP32", [-1, 4])
    ]
    config = stub.ModelConfig(pb.ModelConfigRequest(name="float"), timeout=CALL_S).config
    assert (config.max_batch_size > 0, list(config.input[0].dims)) == (True, [4])
    assert "statistics" in stub.ServerMetadata(pb.ServerMetadataRequest(), timeout=CALL_S).extensions
    before = _statistics(stub, "float")
    values = np.arange(4, dtype=np.float32)[None]
    for _ in range(5):
        reply = stub.ModelInfer(_request("float", values), timeout=CALL_S)
        assert (reply.id, reply.raw_output_contents[0]) == ("", values.tobytes())
    after = _statistics(stub, "float")
    assert after.inference_stats.success.count - before.inference_stats.success.count == 5
    assert after.execution_count - before.execution_count == 5


def test_its_stream_marks_every_answer_as_the_last(stub):
    """A stream that asks for empty final responses has one answer a request, each marked as final."""
    values = np.ones((1, 4), np.float32)
    answers = stub.ModelStreamInfer(
        (_request("float", values, str(number)) for number in range(3)), timeout=CALL_S
    )
    replies = [one.infer_response for one in answers]
    assert [reply.id for reply in replies] == ["0", "1", "2"]
    assert all(reply.parameters["triton_final_response"].bool_param for reply in replies)


def test_every_stage_counts_the_same_requests(server, stub):
    """Tensors, pictures and failed runs: perf_analyzer ends where the counts of the stages differ."""
    stub.ModelInfer(_request("float", np.zeros((3, 4))), timeout=CALL_S)
    with pytest.raises(grpc.RpcError):
        stub.ModelInfer(_request("lookup", np.full((1, 4), 99)), timeout=CALL_S)
    stub.ModelInfer(_request("lookup", np.ones((1, 4))), timeout=CALL_S)
    with stub_of(server) as own:
        own.Infer(request_for(jpeg_of((0, 0, 255)), model="colour"), timeout=CALL_S)
    for model in ("float", "lookup", "colour"):
        found = _statistics(stub, model)
        assert _counts(found) == {found.inference_stats.success.count}
    assert _statistics(stub, "lookup").inference_stats.fail.count == 1


@pytest.fixture(scope="module")
def perf_analyzer():
    """The program, if it runs here."""
    path = shutil.which("perf_analyzer")
    if path is None:
        pytest.skip("perf_analyzer is not installed (wheel perf-analyzer>=2.60, needs glibc 2.38)")
    tried = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=60, check=False)
    if "Perf Analyzer" not in tried.stdout + tried.stderr:
        pytest.skip(f"perf_analyzer does not start here: {tried.stderr.strip()[-200:]}")
    return path


WAYS = {
    "unary": (),
    "unary, asynchronous": ("--async", "--concurrency-range", "8"),
    "stream": ("--streaming", "--async", "--concurrency-range", "4"),
    "rate": ("--async", "--request-rate-range", "20"),
    "rows": ("-b", "3"),
}


def _measure(path: str, address: str, model: str, *options: str) -> str:
    command = [path, "-i", "grpc", "-u", address, "-m", model, *options]
    command += ["--request-count", str(_REQUESTS), "-s", "99"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    return done.stdout + done.stderr


def _check(output: str) -> None:
    assert re.search(r"Throughput: [\d.]+ infer/sec", output), output
    assert re.search(r"Avg request latency: \d+ usec \(overhead .* compute output", output), output
    assert not re.search("terminate|error", output, re.IGNORECASE), output


@pytest.mark.parametrize("way", WAYS)
def test_perf_analyzer_measures(server, perf_analyzer, way):
    """Each way of sending ends with throughput and with the server's own statistics."""
    _check(_measure(perf_analyzer, server.address, "float", *WAYS[way]))


@pytest.mark.parametrize("model", [*map(str.lower, ELEMENTS), "colour"])
def test_perf_analyzer_sends_each_datatype(server, perf_analyzer, model):
    """What it reads from metadata and configuration is what the network takes."""
    _check(_measure(perf_analyzer, server.address, model))
