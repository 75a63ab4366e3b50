"""The gRPC uplink: one long-lived channel; a thread of its own encodes frames and starts calls.

    send --> _encode --> _start --> _done --> _finish
                ^           ^         |
                |           +- retry -+
                +- a picture if the server has no tail for the features, or begins no stream, or if the byte
                   budget can never pay for a key; a key if the server has lost the reference

A step ends the frame's call by returning an outcome or raising; it returns None if a later step will end it.
"""

import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from spillover.common.errors import InvalidInputError, ModelError
from spillover.common.log import get_logger
from spillover.common.types import Frame, Prediction
from spillover.edge.config import UplinkConfig
from spillover.edge.link.state import LinkState
from spillover.edge.payload.encoder import PICTURE, PayloadEncoder
from spillover.edge.payload.types import EncodedFrame
from spillover.edge.runtime.queues import BoundedQueue, WhenFull
from spillover.edge.uplink.base import Reported
from spillover.edge.uplink.call_status import RETRIED, CallStatus, LinkSignal
from spillover.edge.uplink.channel import Connections
from spillover.edge.uplink.in_flight import Call, InFlight
from spillover.edge.uplink.ledger import Attempt, CallLedger
from spillover.edge.uplink.limits import BreakerRule, RetryBudget
from spillover.edge.uplink.outcome import BlockingReply, CallFailure, CallOutcome, CloudAnswer, ReplyHandler
from spillover.edge.uplink.protocol import Caller, Wire

if TYPE_CHECKING:
    from spillover.edge.uplink.protocol import Rpc

_log = get_logger("uplink")

GRACE_S = 5.0
"""Seconds by which `deliver` may wait longer than its call lasts."""
_SPARE_WORK = 16
"""Queue places of the encoding thread beside calls in flight, for channels to renew or drop."""


def _all(prediction: Prediction) -> Prediction:
    """Nothing is left out."""
    return prediction


_Step = Callable[..., CallOutcome | None]


@dataclass(slots=True, eq=False)
class _PendingCall:
    """One frame in the uplink: its call in flight and the handler that waits for the outcome."""

    call: Call
    handler: ReplyHandler
    give_up_s: float
    """Time after which no answer is awaited (monotonic)."""
    frame: Frame | None = None
    """None for a frame from the spool, which is already encoded."""
    encoded_frame: EncodedFrame | None = None
    attempt: Attempt | None = None
    """The last call that was started for it."""
    refused: CallFailure | None = None
    """The server, or the byte budget, refused it in its stream, so it was encoded once more."""
    _unsettled: threading.Lock = field(default_factory=threading.Lock)

    def settle(self) -> bool:
        """Mark the call as settled; tell whether it was not settled before."""
        return self._unsettled.acquire(blocking=False)


class GrpcUplink:
    """An `edge.uplink.base.Uplink` to one server, which speaks `wire`.

    `expects` is the prediction type of the edge's model; answers of another type are rejected. `device_id` is
    the name of this device, which the server compares with the proof. `reported` leaves out what is not
    reported of answers.
    """

    def __init__(
        self,
        config: UplinkConfig,
        payload_encoder: PayloadEncoder,
        wire: Wire,
        expects: type[Prediction],
        ledger: CallLedger,
        device_id: str,
        reported: Reported = _all,
    ) -> None:
        draw = random.Random().random  # noqa: S311 - spreads probes, guards nothing
        failures = config.breaker_failures if config.forecast else sys.maxsize
        rule = BreakerRule(failures, pause_max_s=config.breaker_pause_max_s)
        self._payload_encoder = payload_encoder
        self._ledger = ledger
        self._in_flight = InFlight(config.max_in_flight, rule, time.monotonic, draw, ledger.breaker_turned)
        self._retries = RetryBudget()
        self._stopping = threading.Event()
        self._thread = _EncodingThread(2 * config.max_in_flight + _SPARE_WORK)
        connections = Connections(config, wire.method, lambda: ledger.connect_meter(self._drop_failed))
        self._caller = Caller(config, wire, expects, connections, device_id, reported)

    def link(self, camera_id: str = "") -> LinkState:
        """The state of the link now, and the forms in which a frame of this camera can be sent."""
        return self._ledger.link(self._in_flight.state(), camera_id)

    def report(self, reported: Reported) -> None:
        """Report of answers what `reported` leaves of them, from now on."""
        self._caller.reported = reported

    def trace(self, share: float | None) -> None:
        """Tell the server each frame's trace from now on; `share` are recorded. None: tell nothing."""
        self._caller.trace_share = share

    def certificate_expires_unix_s(self) -> float:
        """When this device's certificate expires, in Unix time; NaN without one."""
        return self._caller.connections.credentials.expires_unix_s()

    def wait_until_ready(self, timeout_s: float) -> bool:
        """Wait at most `timeout_s` seconds until the in-flight cap and the server's pushback allow a call."""
        return self._in_flight.wait_for_room(timeout_s)

    def send(
        self,
        frame: Frame,
        deadline_s: float,
        handler: ReplyHandler,
        option: str = "",
        useful_until_s: float = 0.0,
    ) -> None:
        """Pass `frame` to the encoding thread.

        The policy enforces the in-flight cap; this method only counts.
        """
        give_up_s = deadline_s + self._caller.config.late_answer_window_s
        useful_until_s = max(deadline_s, min(useful_until_s, give_up_s))
        pending = _PendingCall(Call(useful_until_s), handler, give_up_s, frame)
        self._advance(pending, self._begin, self._encode, frame, option)

    def deliver(self, encoded_frame: EncodedFrame, timeout_s: float) -> CallOutcome:
        """Send a frame from the spool and wait for the outcome, at most `timeout_s + GRACE_S` seconds."""
        give_up_s = time.monotonic() + timeout_s
        reply = BlockingReply()
        pending = _PendingCall(Call(give_up_s), reply, give_up_s, encoded_frame=encoded_frame)
        self._retries.count_call()
        self._advance(pending, self._begin, self._start, encoded_frame)
        return reply.wait(timeout_s + GRACE_S)

    def ended(self, camera_id: str) -> None:
        """Let go of what is held for this camera, after its last frame is encoded."""
        self._thread.hand(partial(self._payload_encoder.ended, camera_id))

    def stop(self, deadline_s: float) -> bool:
        """Encode queued frames for the spool, cancel every call; tell whether all ended by `deadline_s`."""
        self._stopping.set()
        ended = {"encoding thread": self._thread.stop(deadline_s)}
        self._caller.connections.close()
        ended["calls"] = self._in_flight.wait_until_empty(max(0.0, deadline_s - time.monotonic()))
        for part, has_ended in ended.items():
            if not has_ended:
                _log.warning("left behind: it did not end in time", part=part)
        return all(ended.values())

    def _advance(self, pending: _PendingCall, step: _Step, *arguments: object) -> None:
        """Run one step for a frame, on any thread. Never raises."""
        try:
            with self._settling(pending):
                outcome = step(pending, *arguments)
                if outcome is not None:
                    self._finish(pending, outcome)
        except Exception:  # noqa: BLE001 - the call is settled; what is left is to say what failed
            self._ledger.fault(step.__name__)

    @contextmanager
    def _settling(self, pending: _PendingCall) -> Iterator[None]:
        """Finish `pending` with a failure if the body raises."""
        try:
            yield
        except BaseException as error:
            status = CallStatus.NOT_SENT if pending.attempt is None else CallStatus.EDGE_FAULT
            self._finish(pending, CallFailure(status, f"{type(error).__name__}: {error}"))
            raise

    def _begin(self, pending: _PendingCall, step: _Step, *arguments: object) -> CallOutcome | None:
        self._in_flight.start(pending.call)
        return self._hand_over(pending, step, *arguments)

    def _hand_over(self, pending: _PendingCall, step: _Step, *arguments: object) -> CallOutcome | None:
        """Run `step` on the encoding thread."""
        if self._thread.hand(partial(self._advance, pending, step, *arguments)):
            return None
        return CallFailure(CallStatus.NOT_SENT, "stopped" if self._stopping.is_set() else "too many frames")

    def _encode(self, pending: _PendingCall, frame: Frame, option: str) -> CallOutcome | None:
        """Encode, then start the call."""
        started_s = time.monotonic()
        pending.encoded_frame = None
        try:
            encoded_frame = self._payload_encoder.pack(frame, option)
        except (InvalidInputError, ModelError) as error:
            return CallFailure(CallStatus.NOT_SENT, str(error))
        pending.encoded_frame = encoded_frame
        now_s = time.monotonic()
        if now_s >= pending.call.deadline_s:
            return CallFailure(CallStatus.NO_TIME_LEFT, "the deadline passed before the frame was encoded")
        pending.handler.encoded(len(encoded_frame.payload.data), now_s - started_s)
        if encoded_frame.option == PICTURE and option not in {"", PICTURE}:
            pending.handler.fall_back(PICTURE, str(pending.refused or "its stream pauses"))
        is_too_large = self._caller.config.forecast and self._ledger.is_too_large(
            encoded_frame, pending.call.deadline_s - now_s
        )
        self._ledger.encoded(encoded_frame, now_s - started_s)
        if is_too_large:
            size = len(encoded_frame.payload.data)
            return CallFailure(CallStatus.NO_TIME_LEFT, f"the answer to {size} bytes would be late")
        self._retries.count_call()
        return self._start(pending, encoded_frame)

    def _start(self, pending: _PendingCall, encoded_frame: EncodedFrame) -> CallOutcome | None:
        """Start the call; `_done` runs when it ends."""
        if self._stopping.is_set():
            return CallFailure(CallStatus.NOT_SENT, "stopped")
        time_left_s = pending.call.deadline_s - time.monotonic()
        try:
            pending.encoded_frame = encoded_frame = self._caller.wire.refit(encoded_frame)
            self._payload_encoder.check_may_leave(encoded_frame)
            request = self._caller.wire.request(encoded_frame, time_left_s)
        except InvalidInputError as error:
            return CallFailure(CallStatus.UNFIT, str(error))
        message_bytes = request.ByteSize()
        refusal = self._caller.check_size(message_bytes) or self._ledger.pay(message_bytes)
        if refusal is not None:
            is_for_ever = refusal.status is CallStatus.EXCEEDS_BUCKET
            if is_for_ever and self._payload_encoder.too_large(encoded_frame):
                return self._encode_again(pending, encoded_frame.option, refusal)
            return refusal
        attempt = Attempt(encoded_frame, time.monotonic())
        rpc = self._caller.call(request, encoded_frame.frame_id, pending.give_up_s - attempt.started_s)
        pending.attempt = attempt
        self._ledger.started(attempt, time_left_s)
        rpc.add_done_callback(lambda _: self._advance(pending, self._done, attempt, rpc))
        return None

    def _done(self, pending: _PendingCall, attempt: Attempt, rpc: "Rpc") -> CallOutcome | None:
        """Read how the call ended and learn from it; may start another call. Runs on a gRPC thread."""
        now_s = time.monotonic()
        if self._caller.connections.has_retired:
            self._drop_failed()
        outcome = self._read(rpc, attempt, now_s)
        self._ledger.learn(attempt, outcome, now_s, in_time=now_s <= pending.call.deadline_s)
        if isinstance(outcome, CloudAnswer):
            self._payload_encoder.acknowledged(attempt.encoded_frame)
            return outcome
        if outcome.status is CallStatus.REFERENCE_LOST:
            self._payload_encoder.lost(attempt.encoded_frame)
            return self._encode_again(pending, attempt.encoded_frame.option, outcome)
        if outcome.status is CallStatus.STREAM_REFUSED:
            self._payload_encoder.refused(attempt.encoded_frame)
            return self._encode_again(pending, attempt.encoded_frame.option, outcome)
        if outcome.status is CallStatus.UNAVAILABLE and self._may_retry(pending):
            return self._call_again(pending, RETRIED, outcome, self._start, attempt.encoded_frame)
        if outcome.status is CallStatus.FAILED_PRECONDITION and self._may_send_picture(pending, attempt):
            pending.handler.fall_back(PICTURE, str(outcome))
            label = outcome.status.value
            return self._call_again(pending, label, outcome, self._encode, pending.frame, PICTURE)
        return outcome

    def _read(self, rpc: "Rpc", attempt: Attempt, now_s: float) -> CallOutcome:
        pushed_back = self._in_flight.note_hints((key, value) for key, value in rpc.trailing_metadata() or ())
        round_trip_s = now_s - attempt.started_s
        outcome = self._caller.outcome(rpc, attempt.encoded_frame, round_trip_s)
        if isinstance(outcome, CloudAnswer):
            self._in_flight.observe_latency(round_trip_s)
            return outcome
        if outcome.status is CallStatus.CANCELLED and self._stopping.is_set():
            return CallFailure(CallStatus.STOPPED, "before the cloud answered")
        return replace(outcome, pushed_back=pushed_back)

    def _may_retry(self, pending: _PendingCall) -> bool:
        """Whether a call that failed at once may be repeated: in time, and within the retry budget."""
        if pending.call.probe or self._stopping.is_set():
            return False
        time_left_s = pending.call.deadline_s - time.monotonic()
        return self._retries.take(time_left_s, self._in_flight.usual_s)

    def _may_send_picture(self, pending: _PendingCall, refused: Attempt) -> bool:
        """Whether to send a picture in place of rejected features: pixels may leave and there is time."""
        if not refused.has_features or not self._may_encode(pending):
            return False
        return self._payload_encoder.pictures_allowed

    def _may_encode(self, pending: _PendingCall) -> bool:
        """Whether the frame itself is here to be encoded anew, and there is time for it."""
        if pending.frame is None or self._stopping.is_set():
            return False
        return time.monotonic() < pending.call.deadline_s

    def _encode_again(self, pending: _PendingCall, option: str, failure: CallFailure) -> CallOutcome | None:
        """Send the same frame in another form of its stream, or in none; once, and if there is time."""
        if pending.refused is not None or not self._may_encode(pending):
            return failure
        pending.refused = failure
        return self._call_again(pending, failure.status.value, failure, self._encode, pending.frame, option)

    def _call_again(
        self, pending: _PendingCall, label: str, failure: CallFailure, step: _Step, *arguments: object
    ) -> CallOutcome | None:
        """Count a failed call and start another one in its place."""
        self._ledger.count(label, failure, pending.attempt, late=pending.frame is None)
        pending.attempt = None
        return self._hand_over(pending, step, *arguments)

    def _finish(self, pending: _PendingCall, outcome: CallOutcome) -> None:
        """Complete the handler, then release the call's place: waiting threads find the result done."""
        if not pending.settle():
            return
        if isinstance(outcome, CallFailure) and outcome.status.means.retry_later:
            outcome = replace(outcome, unsent=pending.encoded_frame)
        with ExitStack() as at_end:  # runs every callback even if one raises
            at_end.callback(self._leave, pending.call, outcome)
            at_end.callback(self._ledger.ended, outcome, pending.attempt, late=pending.frame is None)
            pending.handler.complete(outcome)

    def _leave(self, call: Call, outcome: CallOutcome) -> None:
        link_signal = LinkSignal.GOOD if isinstance(outcome, CloudAnswer) else outcome.status.means.link
        if self._in_flight.finish(call, link_signal) and not self._stopping.is_set():
            self._thread.hand(self._caller.connections.renew)

    def _drop_failed(self) -> None:
        """Drop failed channels, on the thread that owns the connections."""
        self._thread.hand(self._caller.connections.drop_failed)


class _EncodingThread:
    """Runs work in order of arrival. A daemon thread: hanging work does not keep the process alive."""

    def __init__(self, capacity: int) -> None:
        self._queue: BoundedQueue[Callable[[], None]] = BoundedQueue(capacity, WhenFull.DROP_NEWEST)
        self._thread = threading.Thread(target=self._run, name="uplink", daemon=True)
        self._starting = threading.Lock()

    def hand(self, work: Callable[[], None]) -> bool:
        """Queue `work`; tell whether it will run: not after `stop`, nor when the queue is full."""
        with self._starting:
            if self._thread.ident is None:
                self._thread.start()
        return self._queue.put(work) is None

    def stop(self, deadline_s: float) -> bool:
        """Accept no more work; tell whether all accepted work is done by `deadline_s`."""
        self._queue.close()
        with self._starting:
            if self._thread.ident is None:
                return True
        self._thread.join(max(0.0, deadline_s - time.monotonic()))
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            try:
                work()
            except Exception:  # noqa: BLE001 - frames are settled by then; the thread must go on
                _log.exception("the channel to the cloud cannot be renewed")
