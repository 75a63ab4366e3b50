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
from spillover.edge.payload.types import EncodedFeatures, Parcel

if TYPE_CHECKING:
    Method = grpc.UnaryUnaryMultiCallable[Message, Message]  # generic in the stubs alone


class Wire(Protocol):
    """One service. Thread-safe."""

    def method(self, channel: grpc.Channel) -> "Method":
        """The method to call."""
        ...

    def refit(self, parcel: Parcel) -> Parcel:
        """What the service takes for `parcel`, which may have waited. Raises InvalidInputError."""
        ...

    def request(self, parcel: Parcel, time_left_s: float) -> Message:
        """The message for `parcel`, which `refit` has seen."""
        ...

    def reply(self, message: Message, parcel: Parcel) -> InferenceReply:
        """The answer to `parcel`, boxes as `Parcel.in_frame_pixels` takes them.

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

    def refit(self, parcel: Parcel) -> Parcel:
        """Every parcel can be sent as it is."""
        return parcel

    def request(self, parcel: Parcel, time_left_s: float) -> Message:
        """See `Wire`."""
        payload = parcel.payload
        return request_to_pb(
            InferenceRequest(
                jpeg=payload.data if isinstance(payload, EncodedImage) else b"",
                features=Features(payload.head_sha256, payload.data)
                if isinstance(payload, EncodedFeatures)
                else None,
                frame_id=parcel.frame_id,
                device_id=self._device_id,
                camera_id=parcel.camera_id,
                boot_id=parcel.boot_id,
                sequence=parcel.sequence,
                model_name=self._config.model_name,
                model_version=self._config.model_version,
                time_left_s=time_left_s,
                captured_unix_s=parcel.captured_unix_s,
                max_classes=self._config.max_classes,
            )
        )

    def reply(self, message: Message, parcel: Parcel) -> InferenceReply:
        """See `Wire`."""
        del parcel
        if not isinstance(message, pb.InferReply):
            raise TypeError(f"a reply of type {type(message).__name__}")
        return reply_from_pb(message)
