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
from spillover.edge.link.payload_costs import PayloadBook
from spillover.edge.link.state import BreakerPhase, LinkState
from spillover.edge.payload.crops import Crop
from spillover.edge.payload.encoder import PICTURE, Packer
from spillover.edge.payload.types import EncodedFeatures, EncodedTensor, Parcel
from spillover.edge.uplink.blocking_reply import WaitingTicket
from spillover.edge.uplink.breaker import BreakerRule
from spillover.edge.uplink.call_status import (
    EXCEEDS_BUCKET,
    NO_TAIL,
    OVER_BUDGET,
    TOO_LARGE,
    WORTH_ANOTHER_TRY,
    never_left,
    verdict,
)
from spillover.edge.uplink.channel import Connections
from spillover.edge.uplink.connect_meter import Attempts
from spillover.edge.uplink.in_flight import Flight, Passage
from spillover.edge.uplink.operator_alerts import Complaints
from spillover.edge.uplink.outcome import CallFailure, CloudAnswer, Outcome, Ticket
from spillover.edge.uplink.protocol import Wire
from spillover.edge.uplink.retry import RetryBudget

_log = get_logger("uplink")

if TYPE_CHECKING:
    Call = grpc.CallFuture[Message]  # a name of the stubs alone

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

    parcel: Parcel
    departed_s: float
    carried_bytes: int
    frame: Frame | None


class GrpcUplink:
    """An `edge.uplink.base.Uplink` to one server, which speaks `wire`.

    `expects` is the kind of prediction that the edge's own model gives; answers of another kind are refused.
    Encoding takes milliseconds, so it is done on one thread beside the pipeline's; the in-flight cap bounds
    what can wait there. gRPC's own thread runs `_landed`.
    """

    def __init__(
        self,
        config: UplinkConfig,
        packer: Packer,
        wire: Wire,
        expects: type[Prediction],
        observer: UplinkObserver,
        book: PayloadBook | None = None,
        meter: ByteMeter | None = None,
    ) -> None:
        self._config = config
        self._packer = packer
        self._wire = wire
        self._expects = expects
        self._observer = observer
        self._book = book
        self._meter = meter
        draw = random.Random().random  # noqa: S311 - spreads probes, guards nothing
        rule = BreakerRule(config.breaker_failures, pause_max_s=config.breaker_pause_max_s)
        self._complaints = Complaints()
        self._flight = Flight(config.max_in_flight, rule, time.monotonic, draw, self._breaker_turned)
        self._retries = RetryBudget()
        self._connections = Connections(config, wire.method, self._attempts if meter else None)
        self._encoder = ThreadPoolExecutor(1, "uplink")
        self._closing = False

    def link(self, crop_share: float = 0.0) -> LinkState:
        """What is known of the link now, and the forms that a frame may be sent in."""
        state = self._flight.state()
        if self._book:
            state = replace(state, view=self._book.view(state.server_queue_wait_s, crop_share))
        return replace(state, tokens=self._meter.tokens()) if self._meter else state

    def certificate_days_left(self) -> float:
        """Days until this device's certificate ends; not a number when it has none."""
        return self._connections.days_left()

    def wait_until_ready(self, timeout_s: float) -> None:
        """Wait until in-flight cap and server's pushback allow a call, at most `timeout_s` seconds."""
        self._flight.wait_for_room(timeout_s)

    def send(
        self, frame: Frame, deadline_s: float, ticket: Ticket, option: str = "", crop: Crop | None = None
    ) -> None:
        """Hand `frame` to the encoding thread. The cap is the policy's to respect; this only counts."""
        passage = self._flight.take_off(deadline_s)
        self._encoder.submit(self._depart, frame, passage, ticket, option, crop)

    def deliver(self, parcel: Parcel, timeout_s: float) -> Outcome:
        """Send what waited on the disk and wait for the end, at most `timeout_s` seconds."""
        passage = self._flight.take_off(time.monotonic() + timeout_s)
        ticket = WaitingTicket()
        self._retries.called()
        self._submit(self._launch, parcel, passage, ticket, timeout_s)
        return ticket.wait(timeout_s + CLOSE_TIMEOUT_S)

    def close(self) -> None:
        """Cancel every call, and wait (bounded) until all tickets are settled."""
        self._closing = True
        self._encoder.shutdown()
        self._connections.close()
        if not self._flight.wait_until_empty(CLOSE_TIMEOUT_S):
            _log.warning("calls did not end when the channel was closed", in_flight=self.link().in_flight)

    def _depart(
        self, frame: Frame, passage: Passage, ticket: Ticket, option: str, crop: Crop | None = None
    ) -> None:
        """Encode, then call: the work of the encoding thread for one frame."""
        start = time.monotonic()
        try:
            parcel = self._packer.pack(frame, option, crop)
        except Exception as error:  # noqa: BLE001 - whatever it was, the ticket must be settled
            self._land(passage, ticket, CallFailure("not sent", str(error)), None)
            return
        now = time.monotonic()
        if now >= passage.deadline_s:
            late = CallFailure("no time left", "the deadline passed before the frame was encoded", parcel)
            self._land(passage, ticket, late, None)
            return
        ticket.encoded(len(parcel.payload.data), now - start)
        if self._book:
            share = crop.region.share_of(frame.image) if crop and parcel.rest is not None else 1.0
            self._book.made(parcel.option, len(parcel.payload.data), now - start, share)
        self._retries.called()
        self._launch(parcel, passage, ticket, passage.deadline_s - now, frame)

    def _launch(
        self,
        parcel: Parcel,
        passage: Passage,
        ticket: Ticket,
        time_left_s: float,
        frame: Frame | None = None,
    ) -> None:
        """Begin the call, which from then on settles the ticket; a picture of `frame` may take its place."""
        if self._closing:
            self._land(passage, ticket, CallFailure("not sent", "stopped", parcel), None)
            return
        try:
            connection = self._connections.current()
            parcel = self._wire.refit(parcel)
            self._packer.check_may_leave(parcel)
            request = self._wire.request(parcel, time_left_s)
            if (held := self._held_back(request.ByteSize(), parcel)) is not None:
                self._land(passage, ticket, held, None)
                return
            departed_s = time.monotonic()
            call: Call = connection.method.future(
                request,
                timeout=time_left_s + self._config.late_answer_window_s,
                metadata=self._connections.metadata(),
            )
            connection.carry(call)
        except InvalidInputError as error:
            self._land(passage, ticket, CallFailure("unfit", str(error)), None)
            return
        except Exception as error:  # noqa: BLE001 - whatever it was, the ticket must be settled
            self._land(passage, ticket, CallFailure("not sent", str(error), parcel), None)
            return
        sent = self._departed(parcel, departed_s, time_left_s, frame)
        call.add_done_callback(lambda _: self._landed(call, sent, passage, ticket))

    def _held_back(self, message_bytes: int, parcel: Parcel) -> CallFailure | None:
        """Pay for a message from the byte budget; why it cannot leave, if so."""
        limit = self._config.max_message_bytes
        if message_bytes > limit:
            return CallFailure(TOO_LARGE, f"{message_bytes} bytes, uplink.max_message_bytes is {limit}")
        if self._meter is None or self._meter.take(message_bytes):
            return None
        if self._meter.fits(message_bytes):
            return CallFailure(OVER_BUDGET, f"{message_bytes} bytes", parcel)
        return CallFailure(EXCEEDS_BUCKET, f"{message_bytes} bytes")

    def _departed(
        self, parcel: Parcel, departed_s: float, time_left_s: float, frame: Frame | None
    ) -> "_Sent":
        size = len(parcel.payload.data)
        carried = self._book.departed(parcel.option, size, time_left_s) if self._book else size
        return _Sent(parcel, departed_s, carried, frame)

    def _landed(self, call: "Call", sent: "_Sent", passage: Passage, ticket: Ticket) -> None:
        now_s = time.monotonic()
        parcel = sent.parcel
        if self._connections.has_retired:
            self._drop_channels()
        try:
            outcome = self._outcome(call, parcel, now_s - sent.departed_s)
        except Exception as error:  # noqa: BLE001 - whatever it was, the ticket must be settled
            outcome = CallFailure("bad reply", str(error))
        self._learn(outcome, sent, now_s, passage)
        if isinstance(outcome, CallFailure) and outcome.status in WORTH_ANOTHER_TRY:
            if self._tries_again(outcome, parcel, passage, ticket):
                return
            outcome = replace(outcome, unsent=parcel)
        has_no_tail = isinstance(outcome, CallFailure) and outcome.status == NO_TAIL
        if has_no_tail and self._book and isinstance(parcel.payload, EncodedFeatures):
            self._book.refused(parcel.option)
            if sent.frame is not None and self._sends_picture(
                sent.frame, passage, ticket, parcel, str(outcome)
            ):
                return
        self._land(passage, ticket, outcome, None if never_left(outcome) else parcel)

    def _learn(self, outcome: Outcome, sent: "_Sent", now_s: float, passage: Passage) -> None:
        """Tell what this call says of the link; it is no longer under way."""
        if self._book is None:
            return
        self._book.landed(len(sent.parcel.payload.data))
        if isinstance(outcome, CloudAnswer):
            server_s = outcome.server_queue_s + outcome.server_decode_s + outcome.server_infer_s
            in_time = now_s <= passage.deadline_s
            self._book.answered(
                sent.parcel.option, sent.carried_bytes, outcome.network_s, server_s, in_time=in_time
            )
        elif outcome.status == "deadline_exceeded":
            self._book.timed_out(sent.carried_bytes, now_s - sent.departed_s)
        elif outcome.status == "unavailable":
            self._book.unreachable()

    def _sends_picture(
        self, frame: Frame, passage: Passage, ticket: Ticket, parcel: Parcel, refusal: str
    ) -> bool:
        """After features that the server has no tail for: the picture, if it may leave and has time left."""
        if not self._packer.pictures_allowed or self._closing or time.monotonic() >= passage.deadline_s:
            return False
        self._count(NO_TAIL, parcel, ticket)
        ticket.fall_back(PICTURE, refusal)
        self._submit(self._depart, frame, passage, ticket, PICTURE)
        return True

    def _tries_again(self, failure: CallFailure, parcel: Parcel, passage: Passage, ticket: Ticket) -> bool:
        """Begin a second call after one that failed at once, where it can still be in time; it tells."""
        time_left_s = passage.deadline_s - time.monotonic()
        if failure.status != "unavailable" or passage.probe or self._closing:
            return False
        if not self._retries.take(time_left_s, self._flight.usual_s):
            return False
        self._count("retried", None if never_left(failure) else parcel, ticket)
        self._submit(self._launch, parcel, passage, ticket, time_left_s)
        return True

    def _land(self, passage: Passage, ticket: Ticket, outcome: Outcome, sent: Parcel | None) -> None:
        """Settle before the cap makes room, so that whoever waits for room sees the result given."""
        ticket.settle(outcome)
        self._complaints.ended(outcome)
        self._count(outcome.status if isinstance(outcome, CallFailure) else "ok", sent, ticket)
        if self._flight.land(passage, verdict(outcome)) and not self._closing:
            self._submit(self._reconnect)

    def _breaker_turned(self, phase: BreakerPhase) -> None:
        self._complaints.turned(phase)
        self._observer.breaker(phase)

    def _count(self, status: str, sent: Parcel | None, ticket: Ticket) -> None:
        kind = "late" if isinstance(ticket, WaitingTicket) else _kind(sent)
        self._observer.call(status, len(sent.payload.data) if sent else 0, kind)

    def _submit(self, work: Callable[..., None], *arguments: object) -> None:
        """Run on the encoding thread; once that has ended, here: there is nothing left to hold up."""
        try:
            self._encoder.submit(work, *arguments)
        except RuntimeError:
            work(*arguments)

    def _attempts(self) -> Attempts:
        """Counts for one channel."""
        return Attempts(self._pay_attempt, self._drop_channels)

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

    def _outcome(self, call: "Call", parcel: Parcel, round_trip_s: float) -> Outcome:
        pushed_back = self._flight.note_hints((key, value) for key, value in call.trailing_metadata() or ())
        if (code := call.code()) is grpc.StatusCode.CANCELLED and self._closing:
            return CallFailure("stopped", "before the cloud answered")
        if code is not grpc.StatusCode.OK:
            self._connections.note_failure(code, call.details() or "")
            detail = (call.details() or "")[:MAX_DETAIL]
            return CallFailure(code.name.lower(), detail, pushed_back=pushed_back)
        try:
            reply = self._wire.reply(call.result(), parcel)
        except (InvalidInputError, ModelError) as error:
            return CallFailure("bad reply", str(error))
        if reply.frame_id != parcel.frame_id:
            return CallFailure("bad reply", f"it is for frame {reply.frame_id[:MAX_DETAIL]!r}")
        if not isinstance(reply.prediction, self._expects):
            found, wanted = type(reply.prediction).__name__, self._expects.__name__
            return CallFailure("bad reply", f"it carries {found}, the edge's model gives {wanted}")
        self._flight.took(round_trip_s)
        return _answer(reply, parcel, round_trip_s)


def _kind(sent: Parcel | None) -> str:
    match sent.payload if sent else None:
        case EncodedFeatures():
            return "features"
        case EncodedTensor():
            return "tensor"
        case _:
            return PICTURE


def _answer(reply: InferenceReply, parcel: Parcel, round_trip_s: float) -> CloudAnswer:
    return CloudAnswer(
        prediction=parcel.in_frame_pixels(reply.prediction),
        model=reply.model,
        network_s=max(0.0, round_trip_s - reply.timings.total_s),
        server_queue_s=reply.timings.queue_s,
        server_decode_s=reply.timings.decode_s,
        server_infer_s=reply.timings.infer_s,
        sent_bytes=len(parcel.payload.data),
    )
