"""What runs on the server's event loop: never a network with free axes, and no more than a few bytes."""

import zlib

import grpc
import numpy as np
import pytest
from onnx import TensorProto, helper

from spillover.cloud import server as cloud_server
from spillover.cloud.executors.latency import LatencyModel
from spillover.cloud.executors.local import LocalExecutor
from spillover.cloud.rpc import wire_cost
from spillover.cloud.rpc.wire_cost import check_cost
from spillover.cloud.serving.workers import LOOP_BYTES, LOOP_ELEMENTS
from spillover.common.images import decode_reduced
from spillover.common.jpeg import count_scans
from spillover.common.wire import conversion, oip
from spillover.common.wire import tensors as wire_tensors
from spillover.common.wire.oip import request_to_pb
from spillover.common.wire.pb import open_inference_pb2 as pb
from spillover.common.wire.pb import open_inference_pb2_grpc as pb_grpc
from spillover.common.wire.pb import spillover_pb2 as own_pb
from spillover.common.wire.pb import spillover_pb2_grpc as own_grpc
from spillover.common.wire.tensors import TensorRequest
from tests.support.models import colour_classifier, identity, save_network
from tests.support.serving import CALL_S, cloud_config, jpeg_of, request_for, serving
from tests.support.thread_watch import ThreadWatch, watching

PARSE, PARSE_OWN = pb.ModelInferRequest.FromString, own_pb.InferRequest.FromString
UNPACKING = (
    PARSE,
    check_cost,
    wire_cost._walk,
    oip.request_from_pb,
    oip._from_contents,
    oip._array,
    wire_tensors.tensor_from_raw,
    wire_tensors.unpack_bytes,
    wire_tensors.tensor_from_bytes_elements,
    wire_tensors._strings,
)
PACKING = (oip.reply_to_pb, wire_tensors.tensor_to_raw)
READING = (PARSE_OWN, conversion.request_from_pb, count_scans, decode_reduced, zlib.crc32)
ROWS = LOOP_BYTES // 16 + 1
WIDTH = 4


def free_axis(repository):
    """Any length of rows in, the same out."""
    graph = helper.make_graph(
        [helper.make_node("Identity", ["INPUT0"], ["OUTPUT0"])],
        "free",
        [helper.make_tensor_value_info("INPUT0", TensorProto.FLOAT, ["N", "L"])],
        [helper.make_tensor_value_info("OUTPUT0", TensorProto.FLOAT, ["N", "L"])],
    )
    return save_network(graph, repository / "free" / "1")


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """What watches a server's threads, its channel, and the server."""
    repository = tmp_path_factory.mktemp("repository")
    identity(repository, "fixed", width=WIDTH)
    identity(repository, "text", element=TensorProto.STRING, width=WIDTH)
    free_axis(repository)
    colour_classifier(repository)
    watch = ThreadWatch(cloud_server._start, LocalExecutor.run, oip._tensors, *UNPACKING, *PACKING, *READING)
    with (
        watching(watch),
        serving(cloud_config(repository)) as server,
        grpc.insecure_channel(server.address, [("grpc.max_receive_message_length", -1)]) as channel,
    ):
        yield watch, channel, server


@pytest.fixture
def watch(watched):
    """What the threads call in this test."""
    watched[0].forget()
    return watched[0]


@pytest.fixture
def infer(watched):
    """Ask the Open Inference Protocol's way."""
    stub = pb_grpc.GRPCInferenceServiceStub(watched[1])
    return lambda request: stub.ModelInfer(request, timeout=CALL_S)


def ask(infer, model, tensor):
    """The output for a tensor, whose bytes go raw."""
    return infer(request_to_pb(TensorRequest(model, {"INPUT0": tensor})))


def typed(model, field, datatype, values):
    """A request whose elements come in typed contents."""
    request = pb.ModelInferRequest(model_name=model)
    one = request.inputs.add(name="INPUT0", datatype=datatype, shape=[len(values) // WIDTH, WIDTH])
    getattr(one.contents, field).extend(values)
    return request


def quick(server, model):
    """Let the model be known for short runs, whatever this machine made of its warm-up."""
    executor = server.registry.get(model).executor
    executor.latency = LatencyModel()
    executor.latency.learn(1, 1e-5)
    executor.latency.learn(2, 2e-5)


def test_what_is_small_and_quick_stays_on_the_loop(watch, infer, watched):
    """A row of fixed shape is unpacked, run and packed where it came in, as before."""
    quick(watched[2], "fixed")
    ask(infer, "fixed", np.ones((1, WIDTH), np.float32))
    assert watch.ran_on_loop(oip.request_from_pb)
    assert watch.ran_on_loop(LocalExecutor.run)
    assert watch.ran_on_loop(oip.reply_to_pb)


@pytest.mark.parametrize("length", [1, WIDTH, 1000])
def test_a_network_with_a_free_axis_is_never_run_on_the_loop(watch, infer, watched, length):
    """However short its runs have been so far."""
    for _ in range(3):
        quick(watched[2], "free")
        ask(infer, "free", np.ones((1, length), np.float32))
    assert watch.ran_elsewhere(LocalExecutor.run)
    assert not watch.ran_on_loop(LocalExecutor.run)


def test_many_bytes_are_unpacked_run_and_packed_on_threads(watch, infer, watched):
    """Raw bytes: the parser, the tensor, the run, and the reply's bytes."""
    quick(watched[2], "fixed")
    reply = ask(infer, "fixed", np.ones((ROWS, WIDTH), np.float32))
    assert len(reply.raw_output_contents[0]) > LOOP_BYTES
    for function in (PARSE, check_cost, oip.request_from_pb, wire_tensors.tensor_from_raw, *PACKING):
        assert watch.ran_elsewhere(function), function
    for function in (LocalExecutor.run, *UNPACKING, *PACKING):
        assert not watch.ran_on_loop(function), function


def test_many_strings_are_unpacked_and_packed_on_threads(watch, infer):
    """One by one, so their number counts and not their bytes."""
    text = np.full((LOOP_ELEMENTS // WIDTH + 1, WIDTH), "a", np.object_)
    ask(infer, "text", text)
    for function in (wire_tensors.unpack_bytes, wire_tensors._strings, *PACKING):
        assert watch.ran_elsewhere(function), function
        assert not watch.ran_on_loop(function), function


@pytest.mark.parametrize(
    ("model", "field", "datatype", "value"),
    [("fixed", "fp32_contents", "FP32", 1.0), ("text", "bytes_contents", "BYTES", b"a")],
)
def test_many_typed_contents_are_unpacked_on_threads(watch, infer, model, field, datatype, value):
    """As strings: few bytes may be many elements."""
    infer(typed(model, field, datatype, [value] * (LOOP_ELEMENTS + WIDTH)))
    assert watch.ran_elsewhere(oip._from_contents)
    assert not watch.ran_on_loop(oip._from_contents)


def test_a_stream_tells_its_large_requests_from_its_small_ones(watch, watched):
    """Each request of a stream is judged by itself."""
    small = request_to_pb(TensorRequest("fixed", {"INPUT0": np.ones((1, WIDTH), np.float32)}))
    large = request_to_pb(TensorRequest("fixed", {"INPUT0": np.ones((ROWS, WIDTH), np.float32)}))
    stub = pb_grpc.GRPCInferenceServiceStub(watched[1])

    def stream(*requests):
        watch.forget()
        replies = list(stub.ModelStreamInfer(iter(requests), timeout=CALL_S))
        assert [reply.error_message for reply in replies] == [""] * len(requests)

    stream(large, large)
    assert watch.ran_elsewhere(oip._tensors)
    assert not watch.ran_on_loop(oip._tensors)
    stream(large, small)
    assert watch.ran_on_loop(oip._tensors)


def test_a_large_picture_is_read_and_summed_up_on_threads(watch, watched):
    """A new frame, and the same again, which is found by its checksum."""
    noise = np.random.default_rng(0).integers(0, 255, LOOP_BYTES, np.uint8).tobytes()
    jpeg = jpeg_of((0, 0, 255))
    request = request_for(jpeg + noise + b"\xff\xd9", "colour", device_id="dev", boot_id="b", sequence=1)
    stub = own_grpc.SpilloverStub(watched[1])
    first, second = (stub.Infer(request, timeout=CALL_S) for _ in range(2))
    assert first == second
    for function in READING:
        assert watch.ran_elsewhere(function), function
        assert not watch.ran_on_loop(function), function


def test_a_request_that_is_costly_to_parse_is_refused_unparsed(watch, watched):
    """Millions of empty submessages in a few bytes: the sender's fault, and the parser never sees them."""
    raw = watched[1].unary_unary("/inference.GRPCInferenceService/ModelInfer")
    with pytest.raises(grpc.RpcError) as refused:
        raw(b"\x2a\x00" * 1_000_000, timeout=CALL_S)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "more than 256 inputs" in refused.value.details()
    assert watch.ran_elsewhere(check_cost)
    assert not watch.ran_on_loop(check_cost)
    assert not watch.ran_elsewhere(PARSE)
    assert not watch.ran_on_loop(PARSE)
