"""The gRPC uplink: one long-lived channel, frames encoded and called on a thread of their own."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import grpc
import numpy as np

from common.convert import InferenceReply, InferenceRequest, reply_from_pb, request_to_pb
from common.errors import InvalidInputError
from common.images import EncodedImage, encode_jpeg
from common.log import get_logger
from common.pb.spillover_pb2_grpc import SpilloverStub
from common.types import Detections, Frame, Prediction
from edge.config import UplinkConfig
from edge.uplink.flight import Flight
from edge.values import CallFailure, CloudAnswer, LinkState, Outcome, Ticket

_log = get_logger("uplink")

Observe = Callable[[str, int], None]
"""Called once per frame sent: how its call ended (`ok` or a status) and the payload's bytes."""

if TYPE_CHECKING:
    from common.pb import spillover_pb2 as pb

    Call = grpc.CallFuture[pb.InferReply]  # a name of the stubs alone

CLOSE_TIMEOUT_S = 5.0
MAX_DETAIL = 200
"""Characters of a server's text that are passed on."""


class GrpcUplink:
    """An `edge.uplink.base.Uplink` to one server.

    Encoding takes milliseconds, so it is done on one thread beside the pipeline's; the in-flight cap bounds
    what can wait there. gRPC's own thread runs `_landed`.
    """

    def __init__(
        self,
        config: UplinkConfig,
        device_id: str,
        boot_id: str,
        expects: type[Prediction],
        observe: Observe,
    ) -> None:
        self._config = config
        self._device_id = device_id
        self._boot_id = boot_id
        self._expects = expects
        self._observe = observe
        self._flight = Flight(config.max_in_flight)
        self._channel = grpc.insecure_channel(config.address, options=channel_options(config))
        self._infer = SpilloverStub(self._channel).Infer
        self._encoder = ThreadPoolExecutor(1, "uplink")
        self._closing = False

    def link(self) -> LinkState:
        """What is known of the link now."""
        return self._flight.state()

    def wait_until_ready(self, timeout_s: float) -> None:
        """Wait until in-flight cap and server's pushback allow a call, at most `timeout_s` seconds."""
        self._flight.wait_for_room(timeout_s)

    def send(self, frame: Frame, deadline_s: float, ticket: Ticket) -> None:
        """Hand `frame` to the encoding thread. The cap is the policy's to respect; this only counts."""
        self._flight.take_off()
        self._encoder.submit(self._depart, frame, deadline_s, ticket)

    def close(self) -> None:
        """Cancel every call, and wait (bounded) until all tickets are settled."""
        self._closing = True
        self._encoder.shutdown()
        self._channel.close()
        if not self._flight.wait_until_empty(CLOSE_TIMEOUT_S):
            _log.warning("calls did not end when the channel was closed", in_flight=self.link().in_flight)

    def _depart(self, frame: Frame, deadline_s: float, ticket: Ticket) -> None:
        try:
            failure = self._call(frame, deadline_s, ticket)
        except Exception as error:  # noqa: BLE001 - whatever it was, the ticket must be settled
            failure = CallFailure("not sent", str(error))
        if failure is not None:
            self._land(ticket, failure, 0)

    def _call(self, frame: Frame, deadline_s: float, ticket: Ticket) -> CallFailure | None:
        """Encode and begin the call, which from then on settles the ticket; or tell why there is no call."""
        if self._closing:
            return CallFailure("stopped")
        start = time.monotonic()
        picture = encode_jpeg(frame.image, self._config.jpeg_quality, self._config.longest_side)
        now = time.monotonic()
        if now >= deadline_s:
            return CallFailure("no time left", "the deadline passed before the frame was encoded")
        ticket.encoded(len(picture.data), now - start)
        call = self._infer.future(
            request_to_pb(self._request(frame, picture, deadline_s - now)),
            timeout=deadline_s - now + self._config.late_answer_window_s,
        )
        call.add_done_callback(lambda _: self._landed(call, frame, picture, now, ticket))
        return None

    def _request(self, frame: Frame, picture: EncodedImage, time_left_s: float) -> InferenceRequest:
        return InferenceRequest(
            jpeg=picture.data,
            frame_id=frame.frame_id,
            device_id=self._device_id,
            camera_id=frame.camera_id,
            boot_id=self._boot_id,
            sequence=frame.sequence,
            model_name=self._config.model_name,
            model_version=self._config.model_version,
            time_left_s=time_left_s,
            captured_unix_s=frame.captured_unix_s,
            max_classes=self._config.max_classes,
        )

    def _landed(
        self, call: "Call", frame: Frame, picture: EncodedImage, sent_s: float, ticket: Ticket
    ) -> None:
        round_trip_s = time.monotonic() - sent_s
        try:
            outcome = self._outcome(call, frame, picture, round_trip_s)
        except Exception as error:  # noqa: BLE001 - whatever it was, the ticket must be settled
            outcome = CallFailure("bad reply", str(error))
        self._land(ticket, outcome, len(picture.data))

    def _land(self, ticket: Ticket, outcome: Outcome, payload_bytes: int) -> None:
        """Settle before the cap makes room, so that whoever waits for room sees the result given."""
        ticket.settle(outcome)
        self._observe(outcome.status if isinstance(outcome, CallFailure) else "ok", payload_bytes)
        self._flight.land()

    def _outcome(self, call: "Call", frame: Frame, picture: EncodedImage, round_trip_s: float) -> Outcome:
        self._flight.note_hints((key, value) for key, value in call.trailing_metadata() or ())
        if (code := call.code()) is not grpc.StatusCode.OK:
            return CallFailure(code.name.lower(), (call.details() or "")[:MAX_DETAIL])
        try:
            reply = reply_from_pb(call.result())
        except InvalidInputError as error:
            return CallFailure("bad reply", str(error))
        if reply.frame_id != frame.frame_id:
            return CallFailure("bad reply", f"it is for frame {reply.frame_id[:MAX_DETAIL]!r}")
        if not isinstance(reply.prediction, self._expects):
            found, wanted = type(reply.prediction).__name__, self._expects.__name__
            return CallFailure("bad reply", f"it carries {found}, the edge's model gives {wanted}")
        return _answer(reply, frame, picture, round_trip_s)


def channel_options(config: UplinkConfig) -> list[tuple[str, int]]:
    """Options of the channel (names: grpc_types.h of gRPC core).

    A ping oftener than the server permits ends the connection: the server is to allow one every 10 s without
    data. Retries are off, because only the edge knows whether a second try can still meet the deadline.
    """
    return [
        ("grpc.keepalive_time_ms", round(config.keepalive_s * 1000)),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.initial_reconnect_backoff_ms", 500),
        # Despite its name, the least time that one attempt to connect is given; the default is 20 s.
        ("grpc.min_reconnect_backoff_ms", 3000),
        ("grpc.max_reconnect_backoff_ms", round(config.reconnect_backoff_max_s * 1000)),
        ("grpc.max_send_message_length", config.max_message_bytes),
        ("grpc.max_receive_message_length", config.max_message_bytes),
        ("grpc.enable_retries", 0),
    ]


def _answer(reply: InferenceReply, frame: Frame, picture: EncodedImage, round_trip_s: float) -> CloudAnswer:
    return CloudAnswer(
        prediction=_in_frame_pixels(reply.prediction, frame, picture),
        model=reply.model,
        network_s=max(0.0, round_trip_s - reply.timings.total_s),
        server_queue_s=reply.timings.queue_s,
        server_decode_s=reply.timings.decode_s,
        server_infer_s=reply.timings.infer_s,
    )


def _in_frame_pixels(prediction: Prediction, frame: Frame, picture: EncodedImage) -> Prediction:
    """Boxes arrive in pixels of the picture that was sent; the frame may be larger, or begin elsewhere."""
    if not isinstance(prediction, Detections):
        return prediction
    height, width = frame.image.shape[:2]
    offset = np.array([picture.offset_x, picture.offset_y] * 2, np.float32)
    limit = np.array([width, height] * 2, np.float32)
    xyxy = np.clip(prediction.xyxy / np.float32(picture.scale) + offset, 0, limit)
    return Detections(xyxy, prediction.confidence, prediction.class_id)
