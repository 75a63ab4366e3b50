"""The services that an uplink can call, which differ in their messages, and a single call to one of them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import grpc
from google.protobuf.message import Message

from spillover.common.errors import InvalidInputError, ModelError
from spillover.common.images import EncodedImage
from spillover.common.traces import CALL, TRACE_KEY, part_of
from spillover.common.types import Prediction
from spillover.common.wire.conversion import (
    DEVICE_KEY,
    Features,
    InferenceReply,
    InferenceRequest,
    Video,
    reply_from_pb,
    request_to_pb,
)
from spillover.common.wire.pb import spillover_pb2 as pb
from spillover.common.wire.pb.spillover_pb2_grpc import SpilloverStub
from spillover.edge.config import UplinkConfig
from spillover.edge.payload.types import EncodedFeatures, EncodedFrame, EncodedVideo
from spillover.edge.uplink.base import Reported
from spillover.edge.uplink.call_status import CallStatus
from spillover.edge.uplink.channel import Connections
from spillover.edge.uplink.outcome import CallFailure, CallOutcome, CloudAnswer

if TYPE_CHECKING:  # generic only in the stubs
    Method = grpc.UnaryUnaryMultiCallable[Message, Message]
    Rpc = grpc.CallFuture[Message]

MAX_DETAIL = 200
"""Maximum number of characters kept of a server's error text."""


class Wire(Protocol):
    """The messages of one service. Thread-safe."""

    def method(self, channel: grpc.Channel) -> "Method":
        """The stub of the service's method on `channel`."""
        ...

    def refit(self, encoded_frame: EncodedFrame) -> EncodedFrame:
        """Convert a frame, possibly from the spool, to what the service accepts.

        Raises:
            InvalidInputError: the service does not accept this payload.
        """
        ...

    def request(self, encoded_frame: EncodedFrame, time_left_s: float) -> Message:
        """The request message for a frame that `refit` returned."""
        ...

    def reply(self, message: Message, encoded_frame: EncodedFrame) -> InferenceReply:
        """Read the answer to `encoded_frame`, boxes in the pixels that `EncodedFrame.in_frame_pixels` takes.

        Raises:
            InvalidInputError, ModelError: the message is not a valid answer.
        """
        ...


class SpilloverWire:
    """A `Wire` for spillover.v1.Spillover/Infer: sends pictures, video or features, gets predictions."""

    def __init__(self, config: UplinkConfig, device_id: str) -> None:
        self._config = config
        self._device_id = device_id

    def method(self, channel: grpc.Channel) -> "Method":
        """The stub of Infer on `channel`."""
        return SpilloverStub(channel).Infer  # type: ignore[return-value]  # its messages are narrower

    def refit(self, encoded_frame: EncodedFrame) -> EncodedFrame:
        """The frame unchanged: pictures and features are sent as they are."""
        return encoded_frame

    def request(self, encoded_frame: EncodedFrame, time_left_s: float) -> Message:
        """An InferRequest with the picture, the video or the features."""
        payload = encoded_frame.payload
        return request_to_pb(
            InferenceRequest(
                jpeg=payload.data if isinstance(payload, EncodedImage) else b"",
                features=Features(payload.head_sha256, payload.data, payload.position)
                if isinstance(payload, EncodedFeatures)
                else None,
                video=Video(payload.position, payload.packets, payload.width, payload.height)
                if isinstance(payload, EncodedVideo)
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
        """Read an InferReply; boxes are in pixels of the sent picture."""
        del encoded_frame
        if not isinstance(message, pb.InferReply):
            raise TypeError(f"a reply of type {type(message).__name__}")
        return reply_from_pb(message)


@dataclass(slots=True, eq=False)
class Caller:
    """Starts calls on the current connection, and reads how they ended."""

    config: UplinkConfig
    wire: Wire
    expects: type[Prediction]
    connections: Connections
    device_id: str
    reported: Reported
    """What of the cloud's answers is reported; a reload sets another one."""
    trace_share: float | None = None
    """The share of traces that are recorded; None: the server is told of no trace."""

    def check_size(self, message_bytes: int) -> CallFailure | None:
        """The failure for a message above the size limit; None for any other."""
        limit = self.config.max_message_bytes
        if message_bytes <= limit:
            return None
        detail = f"{message_bytes} bytes, uplink.max_message_bytes is {limit}"
        return CallFailure(CallStatus.TOO_LARGE, detail)

    def call(self, request: Message, frame_id: str, timeout_s: float) -> "Rpc":
        """Start a call. Must run on the encoding thread, which owns `connections`."""
        connection = self.connections.current()
        # The server knows who sends before it reads the message.
        metadata = ((DEVICE_KEY, self.device_id), *self.connections.credentials.metadata())
        if (share := self.trace_share) is not None:
            metadata = (*metadata, (TRACE_KEY, part_of(frame_id, CALL, share).header()))
        rpc: Rpc = connection.method.future(request, timeout=timeout_s, metadata=metadata)
        connection.track(rpc)
        return rpc

    def outcome(self, rpc: "Rpc", encoded_frame: EncodedFrame, round_trip_s: float) -> CallOutcome:
        """Read the end of a call that took `round_trip_s` seconds. The reply is validated, not trusted."""
        code, details = rpc.code(), rpc.details() or ""
        if code is not grpc.StatusCode.OK:
            self.connections.credentials.note_failure(code, details)
            return CallFailure(CallStatus.of_grpc(code.name, details), details[:MAX_DETAIL])
        try:
            reply = self.wire.reply(rpc.result(), encoded_frame)
        except (InvalidInputError, ModelError) as error:
            return CallFailure(CallStatus.BAD_REPLY, str(error))
        if reply.frame_id != encoded_frame.frame_id:
            return CallFailure(CallStatus.BAD_REPLY, f"it is for frame {reply.frame_id[:MAX_DETAIL]!r}")
        if not isinstance(reply.prediction, self.expects):
            kind, expected = type(reply.prediction).__name__, self.expects.__name__
            return CallFailure(CallStatus.OTHER_TASK, f"it gives {kind}, the edge's model {expected}")
        return CloudAnswer(
            prediction=encoded_frame.in_frame_pixels(self.reported(reply.prediction)),
            model=reply.model,
            network_s=max(0.0, round_trip_s - reply.timings.total_s),
            server_queue_s=reply.timings.queue_s,
            server_decode_s=reply.timings.decode_s,
            server_infer_s=reply.timings.infer_s,
            sent_bytes=len(encoded_frame.payload.data),
        )
