"""Paths of the methods, and the bytes of messages that are sent to them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from spillover.common.coding import StreamPosition
from spillover.common.types import Tensor
from spillover.common.wire.oip import request_to_pb
from spillover.common.wire.pb import open_inference_pb2 as oip_pb
from spillover.common.wire.pb import spillover_pb2 as pb
from spillover.common.wire.tensors import TensorRequest
from tests.support.serving import jpeg_of, request_for

OWN, OIP = "/spillover.v1.Spillover/", "/inference.GRPCInferenceService/"
INFER, LIST_MODELS = OWN + "Infer", OWN + "ListModels"
CHECK, WATCH = "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"
MODEL_INFER, MODEL_STREAM = OIP + "ModelInfer", OIP + "ModelStreamInfer"
LIVE, LOAD, INDEX = OIP + "ServerLive", OIP + "RepositoryModelLoad", OIP + "RepositoryIndex"

JPEG = jpeg_of((0, 0, 255))
LARGEST = (16 << 20) - 4096
"""Bytes of a message just below `max_message_bytes`."""
RED, BLUE = (0, 0, 255), (255, 0, 0)


def frame(jpeg: bytes = JPEG, **fields: Any) -> bytes:
    """An Infer request with a picture."""
    return request_for(jpeg, **fields).SerializeToString()


def features(head_sha256: bytes, data: bytes, position: StreamPosition | None = None) -> bytes:
    """An Infer request with features, perhaps of a stream."""
    sent = pb.Features(head_sha256=head_sha256, data=data)
    if position is not None:
        sent.position.CopyFrom(
            pb.StreamPosition(
                stream_id=position.stream_id,
                number=position.number,
                reference=position.reference,
                digest=position.digest,
            )
        )
    return pb.InferRequest(model=pb.ModelRef(name="residual"), features=sent).SerializeToString()


def tensors(model: str, given: Mapping[str, Tensor] | Tensor) -> bytes:
    """A ModelInfer request; a bare tensor is INPUT0."""
    inputs = given if isinstance(given, Mapping) else {"INPUT0": given}
    return request_to_pb(TensorRequest(model, dict(inputs))).SerializeToString()


def one_row(model: str = "identity", width: int = 4) -> bytes:
    """A ModelInfer request that is answered."""
    return tensors(model, np.ones((1, width), np.float32))


def load(model: str) -> bytes:
    """A RepositoryModelLoad request."""
    return oip_pb.RepositoryModelLoadRequest(model_name=model).SerializeToString()
