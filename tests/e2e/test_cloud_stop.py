"""`spillover cloud` ends within its limit whatever hangs in it, and its log says what that was."""

import re
import signal
import threading
from pathlib import Path

import grpc
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from spillover.common.wire.oip import request_to_pb
from spillover.common.wire.pb import open_inference_pb2_grpc as oip_grpc
from spillover.common.wire.pb import spillover_pb2 as pb
from spillover.common.wire.pb import spillover_pb2_grpc as pb_grpc
from spillover.common.wire.tensors import TensorRequest
from tests.support.models import colour_classifier, save_network
from tests.support.processes import LIMIT_S, cloud_process, wait_until
from tests.support.serving import CALL_S

LIMIT_OF_STOP_S = 2.0
FOR_EVER = np.array([[2**62]], np.int64)


def counting_loop(repository, columns):
    """Counts to INPUT0 (1, `columns`), one by one: INPUT0 0 is quick, and a large one never ends."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["condition"], ["go_on"]),
            helper.make_node("Add", ["count", "one"], ["next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("condition", TensorProto.BOOL, []),
            helper.make_tensor_value_info("count", TensorProto.INT64, [1, 1]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.INT64, [1, 1]),
        ],
        [numpy_helper.from_array(np.int64(1), "one")],
    )
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMax", ["INPUT0"], ["turns"], keepdims=0),
            helper.make_node("Loop", ["turns", "", "zero"], ["OUTPUT0"], body=body),
        ],
        "counting",
        [helper.make_tensor_value_info("INPUT0", TensorProto.INT64, [1, columns])],
        [helper.make_tensor_value_info("OUTPUT0", TensorProto.INT64, [1, 1])],
        [numpy_helper.from_array(np.zeros((1, 1), np.int64), "zero")],
    )
    return save_network(graph, repository / "counting" / "1")


def ticks(process) -> int:
    """Hundredths of a second of processor time that a process has used."""
    fields = Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def log_of_a_stop_while(process, send) -> str:
    """Send something endless, wait until the process computes, then SIGTERM: it must end by itself."""
    before = ticks(process)
    call = send()
    wait_until(lambda: ticks(process) > before + 100, process)
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 7, log
    assert call.code() in {grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE}
    return log


def count_for_ever(channel):
    """A call of the counting network that never ends."""
    request = request_to_pb(TensorRequest("counting", {"INPUT0": FOR_EVER}))
    return oip_grpc.GRPCInferenceServiceStub(channel).ModelInfer.future(request, timeout=CALL_S)


@pytest.mark.parametrize(
    ("columns", "names"),
    [
        ("L", "ended .*left_behind=.*a run of counting@1"),
        # Of fixed shape, and quick so far: it runs on the event loop, which hangs with it; unless this
        # machine is so busy that a run of the warm-up took long.
        (1, "the event loop hangs|ended .*left_behind=.*a run of counting@1"),
    ],
)
def test_a_run_that_never_ends_does_not_keep_the_process(tmp_path, columns, names):
    """Whether on a thread or on the event loop: the process ends, and its log says where it hung."""
    counting_loop(tmp_path, columns)
    with (
        cloud_process(tmp_path, stop_timeout_s=LIMIT_OF_STOP_S) as (process, address),
        grpc.insecure_channel(address) as channel,
    ):
        log = log_of_a_stop_while(process, lambda: count_for_ever(channel))
        assert re.search(names, log), log


def test_a_client_that_never_sends_its_message_does_not_keep_the_process(tmp_path):
    """Nothing of the server hangs: its exit code is 0, and the log says that clients were cut off."""
    colour_classifier(tmp_path)
    never = threading.Event()
    with (
        cloud_process(tmp_path, stop_timeout_s=LIMIT_OF_STOP_S) as (process, address),
        grpc.insecure_channel(address) as channel,
    ):
        infer = channel.stream_stream("/spillover.v1.Spillover/Infer", pb.InferRequest.SerializeToString)
        call = infer(iter(lambda: never.wait(CALL_S) and None, None), timeout=CALL_S)
        pb_grpc.SpilloverStub(channel).ListModels(pb.ListModelsRequest(), timeout=CALL_S)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 0, log
        assert "calls and clients that hang are cut off" in log
        assert call.code() in {grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE}
        never.set()


def test_a_second_sigterm_ends_the_process_at_once(tmp_path):
    """With all of its time left, and with an exit code that says what it was."""
    counting_loop(tmp_path, "L")
    with (
        cloud_process(tmp_path, stop_timeout_s=1000.0) as (process, address),
        grpc.insecure_channel(address) as channel,
    ):
        before = ticks(process)
        call = count_for_ever(channel)
        wait_until(lambda: ticks(process) > before + 20, process)
        process.send_signal(signal.SIGTERM)
        assert any("draining" in line for line in iter(process.stderr.readline, ""))
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 128 + signal.SIGTERM
        assert "ended at once by a second signal" in log
        assert call.code() in {grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE}
