"""The gRPC uplink: one long-lived channel, frames encoded and called on a thread of their own."""

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import grpc
from google.protobuf.message import Message

from spillover.common.errors import InvalidInputError, ModelError
from spillover.common.log import get_logger
from spillover.common.types import Frame, Prediction
from spillover.common.wire.conversion import InferenceReply
from spillover.edge.config import UplinkConfig
from spillover.edge.link.byte_budget import ByteMeter
from spillover.edge.link.payload_costs import PayloadCostModel
from spillover.edge.link.state import BreakerPhase, LinkState
from spillover.edge.payload.crops import Crop
from spillover.edge.payload.encoder import PICTURE, PayloadEncoder
from spillover.edge.payload.types import EncodedFeatures, EncodedFrame, EncodedTensor
from spillover.edge.uplink.blocking_reply import BlockingReply
from spillover.edge.uplink.breaker import BreakerRule
from spillover.edge.uplink.call_status import (
    EXCEEDS_BUCKET,
    NO_TAIL,
    OVER_BUDGET,
    TOO_LARGE,
    WORTH_ANOTHER_TRY,
    link_signal,
    never_left,
)
from spillover.edge.uplink.channel import Connections
from spillover.edge.uplink.connect_meter import ConnectMeter
from spillover.edge.uplink.in_flight import Call, InFlight
from spillover.edge.uplink.operator_alerts import OperatorAlerts
from spillover.edge.uplink.outcome import CallFailure, CallOutcome, CloudAnswer, ReplyHandler
from spillover.edge.uplink.protocol import Wire
from spillover.edge.uplink.retry import RetryBudget

_log = get_logger("uplink")

if TYPE_CHECKING:
    Rpc = grpc.CallFuture[Message]  # a name of the stubs alone

CLOSE_TIMEOUT_S = 5.0
MAX_DETAIL = 200
"""Characters of a server's text that are passed on."""


class UplinkObserver(Protocol):
    """Whom the uplink tells what is to be counted; neither may block."""

    def call(self, status: str, payload_bytes: int, kind: str) -> None:
        """A call ended with `ok` or a status, or was `retried`; so many bytes of payload were in it.

        `kind` is `picture`, `features`, `tensor`, or `late` for what had waited on the disk.
        """
        ...

    def breaker(self, phase: BreakerPhase) -> None:
        """The breaker changed."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class _Sent:
    """A call under way; the link has to carry `carried_bytes` before it is through, its own included."""

    encoded_frame: EncodedFrame
    departed_s: float
    carried_bytes: int
    frame: Frame | None


class GrpcUplink:
    """An `edge.uplink.base.Uplink` to one server, which speaks `wire`.

    `expects` is the kind of prediction that the edge's own model gives; answers of another kind are refused.
    Encoding takes milliseconds, so it is done on one thread beside the pipeline's; the in-flight cap bounds
    what can wait there. gRPC's own thread runs `_on_done`.
    """

    def __init__(
        self,
        config: UplinkConfig,
        payload_encoder: PayloadEncoder,
        wire: Wire,
        expects: type[Prediction],
        observer: UplinkObserver,
        payload_costs: PayloadCostModel | None = None,
        meter: ByteMeter | None = None,
    ) -> None:
        self._config = config
        self._payload_encoder = payload_encoder
        self._wire = wire
        self._expects = expects
        self._observer = observer
        self._payload_costs = payload_costs
        self._meter = meter
        draw = random.Random().random  # noqa: S311 - spreads probes, guards nothing
        rule = BreakerRule(config.breaker_failures, pause_max_s=config.breaker_pause_max_s)
        self._alerts = OperatorAlerts()
        self._in_flight = InFlight(config.max_in_flight, rule, time.monotonic, draw, self._breaker_turned)
        self._retries = RetryBudget()
        self._connections = Connections(config, wire.method, self._attempts if meter else None)
        self._encoder = ThreadPoolExecutor(1, "uplink")
        self._closing = False

    def link(self, crop_share: float = 0.0) -> LinkState:
        """What is known of the link now, and the forms that a frame may be sent in."""
        state = self._in_flight.state()
        if self._payload_costs:
            state = replace(state, view=self._payload_costs.view(state.server_queue_wait_s, crop_share))
        return replace(state, tokens=self._meter.tokens()) if self._meter else state

    def certificate_days_left(self) -> float:
        """Days until this device's certificate ends; not a number when it has none."""
        return self._connections.days_left()

    def wait_until_ready(self, timeout_s: float) -> None:
        """Wait until in-flight cap and server's pushback allow a call, at most `timeout_s` seconds."""
        self._in_flight.wait_for_room(timeout_s)

    def send(
        self,
        frame: Frame,
        deadline_s: float,
        handler: ReplyHandler,
        option: str = "",
        crop: Crop | None = None,
    ) -> None:
        """Hand `frame` to the encoding thread. The cap is the policy's to respect; this only counts."""
        call = self._in_flight.start(deadline_s)
        self._encoder.submit(self._encode, frame, call, handler, option, crop)

    def deliver(self, encoded_frame: EncodedFrame, timeout_s: float) -> CallOutcome:
        """Send what waited on the disk and wait for the end, at most `timeout_s` seconds."""
        call = self._in_flight.start(time.monotonic() + timeout_s)
        handler = BlockingReply()
        self._retries.called()
        self._submit(self._start_call, encoded_frame, call, handler, timeout_s)
        return handler.wait(timeout_s + CLOSE_TIMEOUT_S)

    def close(self) -> None:
        """Cancel every call, and wait (bounded) until all tickets are settled."""
        self._closing = True
        self._encoder.shutdown()
        self._connections.close()
        if not self._in_flight.wait_until_empty(CLOSE_TIMEOUT_S):
            _log.warning("calls did not end when the channel was closed", in_flight=self.link().in_flight)

    def _encode(
        self, frame: Frame, call: Call, handler: ReplyHandler, option: str, crop: Crop | None = None
    ) -> None:
        """Encode, then call: the work of the encoding thread for one frame."""
        start = time.monotonic()
        try:
            encoded_frame = self._payload_encoder.pack(frame, option, crop)
        except Exception as error:  # noqa: BLE001 - whatever it was, the ticket must be settled
            self._finish(call, handler, CallFailure("not sent", str(error)), None)
            return
        now = time.monotonic()
        if now >= call.deadline_s:
            late = CallFailure(
                "no time left", "the deadline passed before the frame was encoded", encoded_frame
            )
            self._finish(call, handler, late, None)
            return
        handler.encoded(len(encoded_frame.payload.data), now - start)
        if self._payload_costs:
            share = crop.region.share_of(frame.image) if crop and encoded_frame.rest is not None else 1.0
            self._payload_costs.made(
                encoded_frame.option, len(encoded_frame.payload.data), now - start, share
            )
        self._retries.called()
        self._start_call(encoded_frame, call, handler, call.deadline_s - now, frame)

    def _start_call(
        self,
        encoded_frame: EncodedFrame,
        call: Call,
        handler: ReplyHandler,
        time_left_s: float,
        frame: Frame | None = None,
    ) -> None:
        """Begin the call, which from then on settles the ticket; a picture of `frame` may take its place."""
        if self._closing:
            self._finish(call, handler, CallFailure("not sent", "stopped", encoded_frame), None)
            return
        try:
            connection = self._connections.current()
            encoded_frame = self._wire.refit(encoded_frame)
            self._payload_encoder.check_may_leave(encoded_frame)
            request = self._wire.request(encoded_frame, time_left_s)
            if (held := self._held_back(request.ByteSize(), encoded_frame)) is not None:
                self._finish(call, handler, held, None)
                return
            departed_s = time.monotonic()
            rpc: Rpc = connection.method.future(
                request,
                timeout=time_left_s + self._config.late_answer_window_s,
                metadata=self._connections.metadata(),
            )
            connection.track(rpc)
        except InvalidInputError as error:
            self._finish(call, handler, CallFailure("unfit", str(error)), None)
            return
        except Exception as error:  # noqa: BLE001 - whatever it was, the ticket must be settled
            self._finish(call, handler, CallFailure("not sent", str(error), encoded_frame), None)
            return
        sent = self._record_start(encoded_frame, departed_s, time_left_s, frame)
        rpc.add_done_callback(lambda _: self._on_done(rpc, sent, call, handler))

    def _held_back(self, message_bytes: int, encoded_frame: EncodedFrame) -> CallFailure | None:
        """Pay for a message from the byte budget; why it cannot leave, if so."""
        limit = self._config.max_message_bytes
        if message_bytes > limit:
            return CallFailure(TOO_LARGE, f"{message_bytes} bytes, uplink.max_message_bytes is {limit}")
        if self._meter is None or self._meter.take(message_bytes):
            return None
        if self._meter.fits(message_bytes):
            return CallFailure(OVER_BUDGET, f"{message_bytes} bytes", encoded_frame)
        return CallFailure(EXCEEDS_BUCKET, f"{message_bytes} bytes")

    def _record_start(
        self, encoded_frame: EncodedFrame, departed_s: float, time_left_s: float, frame: Frame | None
    ) -> "_Sent":
        size = len(encoded_frame.payload.data)
        carried = (
            self._payload_costs.departed(encoded_frame.option, size, time_left_s)
            if self._payload_costs
            else size
        )
        return _Sent(encoded_frame, departed_s, carried, frame)

    def _on_done(self, rpc: "Rpc", sent: "_Sent", call: Call, handler: ReplyHandler) -> None:
        now_s = time.monotonic()
        encoded_frame = sent.encoded_frame
        if self._connections.has_retired:
            self._drop_channels()
        try:
            outcome = self._outcome(rpc, encoded_frame, now_s - sent.departed_s)
        except Exception as error:  # noqa: BLE001 - whatever it was, the ticket must be settled
            outcome = CallFailure("bad reply", str(error))
        self._learn(outcome, sent, now_s, call)
        if isinstance(outcome, CallFailure) and outcome.status in WORTH_ANOTHER_TRY:
            if self._tries_again(outcome, encoded_frame, call, handler):
                return
            outcome = replace(outcome, unsent=encoded_frame)
        has_no_tail = isinstance(outcome, CallFailure) and outcome.status == NO_TAIL
        if has_no_tail and self._payload_costs and isinstance(encoded_frame.payload, EncodedFeatures):
            self._payload_costs.refused(encoded_frame.option)
            if sent.frame is not None and self._sends_picture(
                sent.frame, call, handler, encoded_frame, str(outcome)
            ):
                return
        self._finish(call, handler, outcome, None if never_left(outcome) else encoded_frame)

    def _learn(self, outcome: CallOutcome, sent: "_Sent", now_s: float, call: Call) -> None:
        """Tell what this call says of the link; it is no longer under way."""
        if self._payload_costs is None:
            return
        self._payload_costs.landed(len(sent.encoded_frame.payload.data))
        if isinstance(outcome, CloudAnswer):
            server_s = outcome.server_queue_s + outcome.server_decode_s + outcome.server_infer_s
            in_time = now_s <= call.deadline_s
            self._payload_costs.answered(
                sent.encoded_frame.option, sent.carried_bytes, outcome.network_s, server_s, in_time=in_time
            )
        elif outcome.status == "deadline_exceeded":
            self._payload_costs.timed_out(sent.carried_bytes, now_s - sent.departed_s)
        elif outcome.status == "unavailable":
            self._payload_costs.unreachable()

    def _sends_picture(
        self, frame: Frame, call: Call, handler: ReplyHandler, encoded_frame: EncodedFrame, refusal: str
    ) -> bool:
        """After features that the server has no tail for: the picture, if it may leave and has time left."""
        if not self._payload_encoder.pictures_allowed or self._closing or time.monotonic() >= call.deadline_s:
            return False
        self._count(NO_TAIL, encoded_frame, handler)
        handler.fall_back(PICTURE, refusal)
        self._submit(self._encode, frame, call, handler, PICTURE)
        return True

    def _tries_again(
        self, failure: CallFailure, encoded_frame: EncodedFrame, call: Call, handler: ReplyHandler
    ) -> bool:
        """Begin a second call after one that failed at once, where it can still be in time; it tells."""
        time_left_s = call.deadline_s - time.monotonic()
        if failure.status != "unavailable" or call.probe or self._closing:
            return False
        if not self._retries.take(time_left_s, self._in_flight.usual_s):
            return False
        self._count("retried", None if never_left(failure) else encoded_frame, handler)
        self._submit(self._start_call, encoded_frame, call, handler, time_left_s)
        return True

    def _finish(
        self, call: Call, handler: ReplyHandler, outcome: CallOutcome, sent: EncodedFrame | None
    ) -> None:
        """Settle before the cap makes room, so that whoever waits for room sees the result given."""
        handler.complete(outcome)
        self._alerts.ended(outcome)
        self._count(outcome.status if isinstance(outcome, CallFailure) else "ok", sent, handler)
        if self._in_flight.finish(call, link_signal(outcome)) and not self._closing:
            self._submit(self._reconnect)

    def _breaker_turned(self, phase: BreakerPhase) -> None:
        self._alerts.turned(phase)
        self._observer.breaker(phase)

    def _count(self, status: str, sent: EncodedFrame | None, handler: ReplyHandler) -> None:
        kind = "late" if isinstance(handler, BlockingReply) else _kind(sent)
        self._observer.call(status, len(sent.payload.data) if sent else 0, kind)

    def _submit(self, work: Callable[..., None], *arguments: object) -> None:
        """Run on the encoding thread; once that has ended, here: there is nothing left to hold up."""
        try:
            self._encoder.submit(work, *arguments)
        except RuntimeError:
            work(*arguments)

    def _attempts(self) -> ConnectMeter:
        """Counts for one channel."""
        return ConnectMeter(self._pay_attempt, self._drop_channels)

    def _pay_attempt(self) -> None:
        if self._meter:
            self._meter.connecting()

    def _drop_channels(self) -> None:
        """On the thread that they belong to."""
        if not self._closing:
            self._submit(self._connections.drop_failed)

    def _reconnect(self) -> None:
        """Take a new channel after a failed probe.

        A connection into silence is known to be dead only after minutes, and one that was refused waits out
        its back-off; a new channel connects at once, when the breaker lets the next probe through.
        """
        if not self._closing:
            self._connections.renew()

    def _outcome(self, rpc: "Rpc", encoded_frame: EncodedFrame, round_trip_s: float) -> CallOutcome:
        pushed_back = self._in_flight.note_hints((key, value) for key, value in rpc.trailing_metadata() or ())
        if (code := rpc.code()) is grpc.StatusCode.CANCELLED and self._closing:
            return CallFailure("stopped", "before the cloud answered")
        if code is not grpc.StatusCode.OK:
            self._connections.note_failure(code, rpc.details() or "")
            detail = (rpc.details() or "")[:MAX_DETAIL]
            return CallFailure(code.name.lower(), detail, pushed_back=pushed_back)
        try:
            reply = self._wire.reply(rpc.result(), encoded_frame)
        except (InvalidInputError, ModelError) as error:
            return CallFailure("bad reply", str(error))
        if reply.frame_id != encoded_frame.frame_id:
            return CallFailure("bad reply", f"it is for frame {reply.frame_id[:MAX_DETAIL]!r}")
        if not isinstance(reply.prediction, self._expects):
            found, wanted = type(reply.prediction).__name__, self._expects.__name__
            return CallFailure("bad reply", f"it carries {found}, the edge's model gives {wanted}")
        self._in_flight.observe_latency(round_trip_s)
        return _answer(reply, encoded_frame, round_trip_s)


def _kind(sent: EncodedFrame | None) -> str:
    match sent.payload if sent else None:
        case EncodedFeatures():
            return "features"
        case EncodedTensor():
            return "tensor"
        case _:
            return PICTURE


def _answer(reply: InferenceReply, encoded_frame: EncodedFrame, round_trip_s: float) -> CloudAnswer:
    return CloudAnswer(
        prediction=encoded_frame.in_frame_pixels(reply.prediction),
        model=reply.model,
        network_s=max(0.0, round_trip_s - reply.timings.total_s),
        server_queue_s=reply.timings.queue_s,
        server_decode_s=reply.timings.decode_s,
        server_infer_s=reply.timings.infer_s,
        sent_bytes=len(encoded_frame.payload.data),
    )
