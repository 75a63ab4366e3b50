"""The wire protocol of any Open Inference Protocol v2 server: sends a tensor, gets the network's raw outputs.

https://github.com/kserve/open-inference-protocol defines the messages. The protocol has no field for a
frame's deadline, so the gRPC deadline takes its place. It has none for the server's times either, so the
whole round trip counts as network time.
"""

from typing import TYPE_CHECKING

import grpc
import numpy as np
from google.protobuf.message import Message

from spillover.common.errors import InvalidInputError
from spillover.common.types import FloatArray, ModelId, Tensor
from spillover.common.wire.conversion import InferenceReply, ServerTimings
from spillover.common.wire.oip import reply_from_pb, request_to_pb
from spillover.common.wire.pb import open_inference_pb2 as pb
from spillover.common.wire.pb.open_inference_pb2_grpc import GRPCInferenceServiceStub
from spillover.common.wire.tensors import TensorRequest
from spillover.edge.config import OipConfig, UplinkConfig
from spillover.edge.payload.tensors import TensorEncoder
from spillover.edge.payload.types import EncodedFrame, EncodedTensor

if TYPE_CHECKING:
    from spillover.edge.uplink.protocol import Method


class OipWire:
    """A `Wire` for inference.GRPCInferenceService/ModelInfer."""

    def __init__(self, config: UplinkConfig, oip: OipConfig, encoder: TensorEncoder) -> None:
        self._oip = oip
        self._encoder = encoder
        self._model = ModelId(config.model_name or encoder.manifest.name, config.model_version)
        self._max_classes = config.max_classes

    def method(self, channel: grpc.Channel) -> "Method":
        """The stub of ModelInfer on `channel`."""
        return GRPCInferenceServiceStub(channel).ModelInfer  # type: ignore[return-value]  # narrower messages

    def refit(self, encoded_frame: EncodedFrame) -> EncodedFrame:
        """Convert a spooled picture to a tensor. Raises InvalidInputError if the frame holds no picture."""
        return self._encoder.refit(encoded_frame)

    def request(self, encoded_frame: EncodedFrame, time_left_s: float) -> Message:
        """A ModelInfer request with one tensor; `time_left_s` is not sent."""
        del time_left_s  # the protocol has no field for it
        return request_to_pb(
            TensorRequest(
                model_name=self._model.name,
                model_version=self._model.version,
                request_id=encoded_frame.frame_id,
                inputs={self._oip.input: _tensor_of(encoded_frame).tensor},
                outputs=self._oip.outputs,
            )
        )

    def reply(self, message: Message, encoded_frame: EncodedFrame) -> InferenceReply:
        """Decode the network's outputs; boxes are already in pixels of the frame."""
        if not isinstance(message, pb.ModelInferResponse):
            raise TypeError(f"a reply of type {type(message).__name__}")
        reply = reply_from_pb(message)
        outputs = [_row(name, reply.outputs.get(name)) for name in self._oip.outputs]
        prediction = self._encoder.decoder(outputs, _tensor_of(encoded_frame).transform)
        return InferenceReply(
            frame_id=reply.request_id or encoded_frame.frame_id,
            model=ModelId(reply.model_name or self._model.name, reply.model_version or self._model.version),
            prediction=prediction.best(self._max_classes),
            timings=ServerTimings(),
        )


def _tensor_of(encoded_frame: EncodedFrame) -> EncodedTensor:
    if not isinstance(encoded_frame.payload, EncodedTensor):
        raise InvalidInputError("only tensors can be sent with uplink.protocol: oip")
    return encoded_frame.payload


def _row(name: str, output: Tensor | None) -> FloatArray:
    """The output's row for the one picture. A server may be wrong, so everything is checked."""
    if output is None:
        raise InvalidInputError(f"reply has no output {name!r} (uplink.oip.outputs)")
    if output.dtype.kind not in "fiu" or not output.ndim or len(output) != 1:
        raise InvalidInputError(
            f"output {name!r} is {output.dtype} {list(output.shape)}, not one row of numbers"
        )
    row = np.asarray(output[0], np.float32)
    if not np.isfinite(row).all():
        raise InvalidInputError(f"output {name!r} has a value that is not a number")
    return row
