"""The log of a server that strangers and senders provoke: JSON lines only, and few of them."""

import json
import socket
from collections import Counter

import grpc
import numpy as np
from onnx import TensorProto, helper, numpy_helper

from spillover.common.security.tokens import add_token
from spillover.common.wire.oip import request_to_pb
from spillover.common.wire.pb import open_inference_pb2 as pb
from spillover.common.wire.pb import open_inference_pb2_grpc as pb_grpc
from spillover.common.wire.tensors import TensorRequest
from tests.support.models import colour_classifier, save_network
from tests.support.pki import Pki
from tests.support.processes import LIMIT_S, cloud_process
from tests.support.serving import CALL_S

TIMES = 50


def test_refused_calls_make_few_lines_and_json_alone(tmp_path):
    """Callers without a token: the log says that there are some and why, and counts each."""
    colour_classifier(tmp_path)
    tokens = tmp_path / "tokens.yaml"
    add_token(tokens, "camera-1", "device", None)
    security = {"tokens_file": str(tokens)}
    with (
        cloud_process(tmp_path, log={"json": True}, security=security) as (process, address),
        grpc.insecure_channel(address) as channel,
    ):
        infer = pb_grpc.GRPCInferenceServiceStub(channel).ModelInfer
        calls = [infer.future(pb.ModelInferRequest(), timeout=CALL_S) for _ in range(TIMES)]
        # A stranger who asks for so much at once may be disconnected in between.
        codes = Counter(call.code() for call in calls)
        refused_calls = codes.pop(grpc.StatusCode.UNAUTHENTICATED)
        assert set(codes) <= {grpc.StatusCode.UNAVAILABLE}
        process.terminate()
        _, log = process.communicate(timeout=LIMIT_S)
    refused = [event for line in log.splitlines() if (event := json.loads(line))["event"] == "refused"]
    assert refused[0]["because"]
    assert refused_calls <= sum(event["count"] for event in refused) <= TIMES
    assert len(refused) < TIMES / 2


def test_garbage_and_refused_data_make_few_lines_and_json_alone(tmp_path):
    """50 handshakes that are none, and 50 indices out of range: the libraries write a line to each."""
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "INPUT0"], ["OUTPUT0"])],
        "lookup",
        [helper.make_tensor_value_info("INPUT0", TensorProto.INT64, ["N", 1])],
        [helper.make_tensor_value_info("OUTPUT0", TensorProto.FLOAT, ["N", 1])],
        [numpy_helper.from_array(np.zeros(2, np.float32), "table")],
    )
    save_network(graph, tmp_path / "lookup" / "1")
    pki = Pki(tmp_path / "ca")
    security = {"tls": pki.server_tls(mutual=False)}
    with cloud_process(tmp_path, log={"json": True}, security=security) as (process, address):
        host, _, port = address.rpartition(":")
        for _ in range(TIMES):
            with socket.create_connection((host, int(port)), timeout=CALL_S) as stranger:
                stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
                while stranger.recv(1000):
                    pass
        request = request_to_pb(TensorRequest("lookup", {"INPUT0": np.array([[9]], np.int64)}))
        credentials = grpc.ssl_channel_credentials(pki.ca.read_bytes())
        with grpc.secure_channel(f"localhost:{port}", credentials) as channel:
            infer = pb_grpc.GRPCInferenceServiceStub(channel).ModelInfer
            calls = [infer.future(request, timeout=CALL_S) for _ in range(TIMES)]
            assert {call.code() for call in calls} == {grpc.StatusCode.INVALID_ARGUMENT}
        process.terminate()
        _, log = process.communicate(timeout=LIMIT_S)
    events = [json.loads(line) for line in log.splitlines()]
    seen = {event["component"] for event in events}
    assert {"grpc", "onnxruntime"} <= seen
    noise = [event for event in events if event["component"] in {"grpc", "onnxruntime", "native"}]
    told = sum(event.get("left_out", 0) + (event["event"] != "lines left out") for event in noise)
    assert told >= 2 * TIMES
    times = {}
    for event in noise:
        times.setdefault((event["component"], event["timestamp"][:19]), []).append(event)
    assert max(map(len, times.values())) <= 2
