"""What the two servers are asked: one tensor, and one picture to classify."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import grpc
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.cloud.load import MODEL_INFER, write_body
from benchmarks.cloud.networks import NETWORKS, write_networks
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
from spillover.common.wire.pb import open_inference_pb2 as oip_pb
from spillover.common.wire.pb import open_inference_pb2_grpc as oip_grpc
from spillover.common.wire.pb import spillover_pb2 as pb

_CLASSIFIER = "mean"
_SIDE = 224
_WIDTH, _HEIGHT, _QUALITY = 640, 480, 85
_SEED = 20240607
_CALL_S = 60.0


@dataclass(frozen=True, slots=True)
class Job:
    """One request that is sent again and again: its network, its method, and the file that h2load sends."""

    about: str
    network: str
    method: str
    body: Path
    equal_answers: bool
    """False where answers tell times, so that their lengths differ."""


def write_jobs(folder: Path) -> tuple[Path, Sequence[Job]]:
    """Write networks and requests to `folder`; gives the repository of the networks, and the jobs."""
    repository = folder / "networks"
    identity = NETWORKS["identity"]
    write_networks(repository, [identity])
    _write_classifier(repository / _CLASSIFIER / "1")
    tensor, picture = folder / "tensor.body", folder / "picture.body"
    write_body(identity, tensor)
    message = _picture().SerializeToString()
    picture.write_bytes(struct.pack(">BI", 0, len(message)) + message)
    return repository, (
        Job("a tensor of 16 floats", identity.name, MODEL_INFER, tensor, equal_answers=True),
        Job(
            f"a JPEG of {_WIDTH}x{_HEIGHT}", _CLASSIFIER, "/spillover.v1.Spillover/Infer", picture,
            equal_answers=False,
        ),
    )  # fmt: skip


def answered(address: str, network: str) -> int:
    """How many rows of `network` the server has answered since its start."""
    with grpc.insecure_channel(address) as channel:
        request = oip_pb.ModelStatisticsRequest(name=network)
        reply = oip_grpc.GRPCInferenceServiceStub(channel).ModelStatistics(request, timeout=_CALL_S)
    return sum(model.inference_count for model in reply.model_stats)


def _picture() -> pb.InferRequest:
    """Smooth noise, about as hard to compress as a photograph; names no device, so that no answer is kept."""
    coarse = np.random.default_rng(_SEED).integers(0, 256, (_HEIGHT // 16, _WIDTH // 16, 3), np.uint8)
    smooth = cv2.resize(coarse, (_WIDTH, _HEIGHT), interpolation=cv2.INTER_CUBIC)
    jpeg = encode_jpeg(smooth.astype(np.uint8, copy=False), _QUALITY).data
    return pb.InferRequest(
        frame_id="frame",
        model=pb.ModelRef(name=_CLASSIFIER),
        image=pb.EncodedImage(format=pb.EncodedImage.FORMAT_JPEG, data=jpeg),
    )


def _write_classifier(folder: Path) -> None:
    """The mean of each colour as a class of its own: the network costs little beside decoding."""
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["image"], ["mean"]),
            helper.make_node("Reshape", ["mean", "shape"], ["logits"]),
        ],
        _CLASSIFIER,
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, _SIDE, _SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(np.array([-1, 3], np.int64), "shape")],
    )
    folder.mkdir(parents=True)
    path = folder / MODEL_FILE
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    description = Manifest(
        name=_CLASSIFIER,
        version="1",
        task=CLASSIFICATION.name,
        sha256=file_sha256(path),
        input=Input(height=_SIDE, width=_SIDE),
        output=Output(decoder="logits"),
    )
    write_manifest(folder, description)
