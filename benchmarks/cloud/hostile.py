"""Requests that were made to hold up a server, each of them within its limits or refused by it.

As a program it is the client: `python -m benchmarks.cloud.hostile HOST:PORT` reads names from standard input,
sends each request once and answers with its gRPC status.
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import grpc
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from spillover.common.images import encode_jpeg
from spillover.common.model.manifest import (
    MODEL_FILE,
    Input,
    Manifest,
    Output,
    file_sha256,
    write_manifest,
)
from spillover.common.tasks.classification import CLASSIFICATION
from spillover.common.types import Tensor
from spillover.common.wire.oip import request_to_pb
from spillover.common.wire.pb import open_inference_pb2 as pb
from spillover.common.wire.pb import spillover_pb2 as own_pb
from spillover.common.wire.tensors import TensorRequest

IDLE = "nothing"
_OIP, _OWN = "/inference.GRPCInferenceService/ModelInfer", "/spillover.v1.Spillover/Infer"
_MESSAGE_BYTES = 16 * 1024 * 1024 - 1024
_UNPACKED = 262_144
_LONG = 8_000
_CALL_S = 120.0

Request = tuple[str, bytes]
"""A method, and the bytes of its message."""


def write_networks(repository: Path) -> None:
    """Networks of fixed shape, of strings, of a cost that is the square of a free length; a classifier."""
    rows: list[str | int] = ["N", 16]
    echo = [helper.make_node("Identity", ["INPUT0"], ["OUTPUT0"])]
    _write(repository / "fixed", echo, rows, rows)
    _write(repository / "text", echo, rows, rows, element=TensorProto.STRING)
    squared = [
        helper.make_node("Transpose", ["INPUT0"], ["column"], perm=[1, 0]),
        helper.make_node("MatMul", ["column", "INPUT0"], ["square"]),
        helper.make_node("ReduceMax", ["square"], ["OUTPUT0"], keepdims=1),
    ]
    _write(repository / "free", squared, ["N", "L"], [1, 1])
    mean = [
        helper.make_node("GlobalAveragePool", ["INPUT0"], ["mean"]),
        helper.make_node("Reshape", ["mean", "shape"], ["OUTPUT0"]),
    ]
    shape = numpy_helper.from_array(np.array([-1, 3], np.int64), "shape")
    folder = _write(repository / "colour", mean, ["N", 3, 16, 16], ["N", 3], [shape])
    description = Manifest(
        name="colour",
        version="1",
        task=CLASSIFICATION.name,
        sha256=file_sha256(folder / MODEL_FILE),
        input=Input(height=16, width=16),
        output=Output(decoder="logits"),
    )
    write_manifest(folder, description)


def _write(
    model: Path,
    nodes: list[onnx.NodeProto],
    takes: list[str | int],
    gives: list[str | int],
    weights: list[onnx.TensorProto] | None = None,
    element: int = TensorProto.FLOAT,
) -> Path:
    inputs = [helper.make_tensor_value_info("INPUT0", element, takes)]
    outputs = [helper.make_tensor_value_info("OUTPUT0", element, gives)]
    graph = helper.make_graph(nodes, model.name, inputs, outputs, weights)
    (folder := model / "1").mkdir(parents=True)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10),
        folder / MODEL_FILE,
    )
    return folder


def _raw(model: str, tensor: Tensor) -> Request:
    return _OIP, request_to_pb(TensorRequest(model, {"INPUT0": tensor})).SerializeToString()


def _typed(model: str, datatype: str, field: str, value: object) -> Request:
    request = pb.ModelInferRequest(model_name=model)
    tensor = request.inputs.add(name="INPUT0", datatype=datatype, shape=[_UNPACKED // 16, 16])
    getattr(tensor.contents, field).extend([value] * _UNPACKED)
    return _OIP, request.SerializeToString()


def _picture() -> Request:
    jpeg = encode_jpeg(np.zeros((16, 16, 3), np.uint8), 90).data
    padded = jpeg + bytes(_MESSAGE_BYTES - 1024 - len(jpeg)) + b"\xff\xd9"
    image = own_pb.EncodedImage(format=own_pb.EncodedImage.FORMAT_JPEG, data=padded)
    request = own_pb.InferRequest(
        model=own_pb.ModelRef(name="colour"), image=image, device_id="dev", boot_id="boot"
    )
    return _OWN, request.SerializeToString()


def _fields(field: bytes) -> Request:
    return _OIP, field * (_MESSAGE_BYTES // len(field))


REQUESTS: Mapping[str, Callable[[], Request]] = MappingProxyType(
    {
        "one row, as usual": lambda: _raw("fixed", np.ones((1, 16), np.float32)),
        "a short row of free length": lambda: _raw("free", np.ones((1, 1), np.float32)),
        "a long row of free length": lambda: _raw("free", np.ones((1, _LONG), np.float32)),
        "many rows": lambda: _raw("fixed", np.ones((_MESSAGE_BYTES // 64 - 64, 16), np.float32)),
        "raw strings": lambda: _raw("text", np.full((_UNPACKED // 16, 16), "a", np.object_)),
        "strings one by one": lambda: _typed("text", "BYTES", "bytes_contents", b"a"),
        "floats one by one": lambda: _typed("fixed", "FP32", "fp32_contents", 1.0),
        "a picture of 16 MB": _picture,
        "empty inputs": lambda: _fields(b"\x2a\x00"),
        "empty raw contents": lambda: _fields(b"\x3a\x00"),
        "parameters without value": lambda: _fields(b"\x22\x03\x0a\x01k"),
        "fields that nobody knows": lambda: _fields(b"\xf8\x07\x01"),
    }
)


def main(address: str) -> None:
    """Send what standard input names, until it ends."""
    made = {name: make() for name, make in REQUESTS.items()}
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(address, options) as channel:
        for line in sys.stdin:
            method, message = made[line.strip()]
            try:
                channel.unary_unary(method, bytes, bytes)(message, timeout=_CALL_S)
                status = grpc.StatusCode.OK
            except grpc.RpcError as error:
                status = error.code()
            print(status.name, flush=True)  # noqa: T201 - its answer


if __name__ == "__main__":
    main(sys.argv[1])
