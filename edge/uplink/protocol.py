"""What differs between the services that an uplink can call: their messages, and what an answer says."""

from typing import TYPE_CHECKING, Protocol

import grpc
from google.protobuf.message import Message

from spillover.common.images import EncodedImage
from spillover.common.wire.conversion import (
    Features,
    InferenceReply,
    InferenceRequest,
    reply_from_pb,
    request_to_pb,
)
from spillover.common.wire.pb import spillover_pb2 as pb
from spillover.common.wire.pb.spillover_pb2_grpc import SpilloverStub
from spillover.edge.config import UplinkConfig
from spillover.edge.payload.types import EncodedFeatures, EncodedFrame

if TYPE_CHECKING:
    Method = grpc.UnaryUnaryMultiCallable[Message, Message]  # generic in the stubs alone


class Wire(Protocol):
    """One service. Thread-safe."""

    def method(self, channel: grpc.Channel) -> "Method":
        """The method to call."""
        ...

    def refit(self, encoded_frame: EncodedFrame) -> EncodedFrame:
        """What the service takes for `encoded_frame`, which may have waited. Raises InvalidInputError."""
        ...

    def request(self, encoded_frame: EncodedFrame, time_left_s: float) -> Message:
        """The message for `encoded_frame`, which `refit` has seen."""
        ...

    def reply(self, message: Message, encoded_frame: EncodedFrame) -> InferenceReply:
        """The answer to `encoded_frame`, boxes as `EncodedFrame.in_frame_pixels` takes them.

        Raises:
            InvalidInputError, ModelError: the message is none.
        """
        ...


class SpilloverWire:
    """spillover.v1.Spillover/Infer: pictures or features there, predictions back."""

    def __init__(self, config: UplinkConfig, device_id: str) -> None:
        self._config = config
        self._device_id = device_id

    def method(self, channel: grpc.Channel) -> "Method":
        """See `Wire`."""
        return SpilloverStub(channel).Infer  # type: ignore[return-value]  # its messages are narrower

    def refit(self, encoded_frame: EncodedFrame) -> EncodedFrame:
        """Every parcel can be sent as it is."""
        return encoded_frame

    def request(self, encoded_frame: EncodedFrame, time_left_s: float) -> Message:
        """See `Wire`."""
        payload = encoded_frame.payload
        return request_to_pb(
            InferenceRequest(
                jpeg=payload.data if isinstance(payload, EncodedImage) else b"",
                features=Features(payload.head_sha256, payload.data)
                if isinstance(payload, EncodedFeatures)
                else None,
                frame_id=encoded_frame.frame_id,
                device_id=self._device_id,
                camera_id=encoded_frame.camera_id,
                boot_id=encoded_frame.boot_id,
                sequence=encoded_frame.sequence,
                model_name=self._config.model_name,
                model_version=self._config.model_version,
                time_left_s=time_left_s,
                captured_unix_s=encoded_frame.captured_unix_s,
                max_classes=self._config.max_classes,
            )
        )

    def reply(self, message: Message, encoded_frame: EncodedFrame) -> InferenceReply:
        """See `Wire`."""
        del encoded_frame
        if not isinstance(message, pb.InferReply):
            raise TypeError(f"a reply of type {type(message).__name__}")
        return reply_from_pb(message)
