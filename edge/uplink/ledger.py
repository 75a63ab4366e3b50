"""Bookkeeping of calls: bytes charged, link and payload costs learnt, outcomes counted and logged."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from spillover.common.log import get_logger
from spillover.edge.link.byte_budget import ByteMeter, Unmetered
from spillover.edge.link.estimator import Upload
from spillover.edge.link.payload_costs import PayloadCostModel
from spillover.edge.link.state import BreakerPhase, LinkState
from spillover.edge.payload.encoder import PICTURE, TENSOR, VIDEO
from spillover.edge.payload.streams import Outlook
from spillover.edge.payload.types import (
    EncodedFeatures,
    EncodedFrame,
    EncodedTensor,
    EncodedVideo,
    behind_bytes,
    is_key,
)
from spillover.edge.uplink.call_status import LATE, OK, CallStatus
from spillover.edge.uplink.channel import ConnectMeter, Unwatched
from spillover.edge.uplink.outcome import CallFailure, CallOutcome, CloudAnswer

_log = get_logger("uplink")


class UplinkObserver(Protocol):
    """Receives counts of calls; no method may block."""

    def call(self, status: str, payload_bytes: int, kind: str) -> None:
        """Count a call that ended with `status`: a `CallStatus` value, `ok` or `retried`.

        The call sent `payload_bytes`; `kind` is `picture`, `video`, `features` or `tensor`, or `late` for a
        frame from the spool.
        """
        ...

    def breaker(self, phase: BreakerPhase, reason: str) -> None:
        """Note the breaker's new phase; `reason` is the failure that opened it, empty once it is closed."""
        ...

    def fits(self, misfit: str) -> None:
        """Note why edge and cloud do not fit together; empty once the cloud has answered again."""
        ...


@dataclass(slots=True, eq=False)
class Attempt:
    """One call that was started for a frame."""

    encoded_frame: EncodedFrame
    started_s: float
    upload: Upload | None = None
    """Its place on the link, from its start to its end."""

    @property
    def payload_bytes(self) -> int:
        """Size of the payload in bytes."""
        return len(self.encoded_frame.payload.data)

    @property
    def has_features(self) -> bool:
        """Whether the payload is features, not a picture."""
        return isinstance(self.encoded_frame.payload, EncodedFeatures)


class CallLedger:
    """Charges, learns from and counts every call. Thread-safe."""

    def __init__(
        self, payload_costs: PayloadCostModel, meter: ByteMeter | Unmetered, observer: UplinkObserver
    ) -> None:
        self._payload_costs = payload_costs
        self._meter = meter
        self._observer = observer
        self._alerts = OperatorAlerts()

    def link(self, calls: LinkState, camera_id: str = "") -> LinkState:
        """The state of the calls, with the forms available to a camera and the byte budget."""
        view = self._payload_costs.view(calls.server_queue_wait_s, calls.in_flight, camera_id)
        return replace(calls, view=view, tokens=self._meter.tokens())

    def encoded(self, encoded_frame: EncodedFrame, encode_s: float) -> None:
        """Note an encoded frame."""
        payload = encoded_frame.payload
        size = len(payload.data) - behind_bytes(payload)
        self._payload_costs.made(encoded_frame.option, size, encode_s, key=is_key(payload))

    def is_too_large(self, encoded_frame: EncodedFrame, time_left_s: float) -> bool:
        """Whether a frame is larger than usual and its answer would be late."""
        payload = encoded_frame.payload
        outlook = Outlook(is_key(payload), behind_bytes(payload))
        return self._payload_costs.is_too_large(encoded_frame.option, len(payload.data), time_left_s, outlook)

    def pay(self, message_bytes: int) -> CallFailure | None:
        """Charge a message to the byte budget; return the failure if the budget refuses.

        May write to disk.
        """
        if self._meter.take(message_bytes):
            return None
        fits = self._meter.fits(message_bytes)
        status = CallStatus.OVER_BUDGET if fits else CallStatus.EXCEEDS_BUCKET
        return CallFailure(status, f"{message_bytes} bytes")

    def connect_meter(self, lost: Callable[[], None]) -> ConnectMeter | Unwatched:
        """The meter for one channel's connection attempts, if they are charged."""
        return ConnectMeter(self._meter.connecting, lost) if self._meter.connection_bytes else Unwatched()

    def started(self, attempt: Attempt, time_left_s: float) -> None:
        """Note that a call has started."""
        attempt.upload = self._payload_costs.departed(
            attempt.encoded_frame.option, attempt.payload_bytes, time_left_s
        )

    def learn(self, attempt: Attempt, outcome: CallOutcome, ended_s: float, *, in_time: bool) -> None:
        """Learn from the end of a call; `ended_s` is on the clock of `Attempt.started_s`."""
        option, upload = attempt.encoded_frame.option, attempt.upload
        if upload is None:
            return
        if isinstance(outcome, CloudAnswer):
            server_s = outcome.server_queue_s + outcome.server_decode_s + outcome.server_infer_s
            self._payload_costs.answered(option, upload, outcome.network_s, server_s, in_time=in_time)
        elif outcome.status is CallStatus.DEADLINE_EXCEEDED:
            self._payload_costs.timed_out(upload, ended_s - attempt.started_s)
        elif outcome.status is CallStatus.UNAVAILABLE:
            self._payload_costs.unreachable()
        elif outcome.status is CallStatus.FAILED_PRECONDITION and attempt.has_features:
            self._payload_costs.refused(option)

    def count(self, label: str, outcome: CallOutcome, attempt: Attempt | None, *, late: bool) -> None:
        """Count the end of one call with its sent bytes; without an attempt nothing was sent."""
        if attempt is not None and attempt.upload is not None:
            self._payload_costs.landed(attempt.upload)
            attempt.upload = None
        never_left = isinstance(outcome, CallFailure) and outcome.never_left
        payload_bytes = 0 if attempt is None or never_left else attempt.payload_bytes
        self._observer.call(label, payload_bytes, LATE if late else _kind(attempt))

    def ended(self, outcome: CallOutcome, attempt: Attempt | None, *, late: bool) -> None:
        """Note that a frame's last call has ended, or was never started."""
        if self._alerts.ended(outcome):
            self._observer.fits(self._alerts.misfit)
        label = outcome.status.value if isinstance(outcome, CallFailure) else OK
        self.count(label, outcome, attempt, late=late)

    def fault(self, step: str) -> None:
        """Log a step of the uplink that raised; call it while handling the exception."""
        self._alerts.fault(step)

    def breaker_turned(self, phase: BreakerPhase) -> None:
        """Note the breaker's new phase."""
        self._observer.breaker(phase, self._alerts.turned(phase))


class OperatorAlerts:
    """Logs faults that an operator must fix, each status once until a call succeeds again.

    Thread-safe. An outage is logged when the breaker opens; a single lost call is not logged.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._logged: set[str] = set()
        self._paused = False
        self._last = CallFailure(CallStatus.NO_ANSWER_IN_TIME)
        self.misfit = ""
        """Why edge and cloud do not fit together, with the key; empty: they do, as far as is known."""

    def ended(self, outcome: CallOutcome) -> bool:
        """Note the end of a call; tell whether `misfit` is another one now."""
        before = self.misfit
        with self._lock:
            if isinstance(outcome, CloudAnswer):
                self._logged.clear()
                self._last = CallFailure(CallStatus.NO_ANSWER_IN_TIME)
                self.misfit = ""
                return bool(before)
            self._last = outcome
            status, means = outcome.status.value, outcome.status.means
            if means.misfit_key:
                self.misfit = f"{means.misfit_key}: {outcome.detail}"
            is_told = not means.operator_must_fix or not self._is_first(status)
        if is_told:
            pass
        elif means.misfit_key:
            _log.error(
                "edge and cloud do not fit", status=status, detail=outcome.detail, key=means.misfit_key
            )
        else:
            _log.warning("the cloud does not answer", status=status, detail=outcome.detail)
        return self.misfit != before

    def fault(self, step: str) -> None:
        """Log the traceback of the exception that is being handled, which a step raised."""
        with self._lock:
            is_first = self._is_first(step)
        if is_first:
            _log.exception("a fault of this program in the uplink", step=step)

    def turned(self, phase: BreakerPhase) -> str:
        """Log the breaker's new phase; half open still belongs to the same outage.

        Returns the failure behind it; empty when the breaker is closed.
        """
        with self._lock:
            begins = phase is BreakerPhase.OPEN and not self._paused
            if phase is not BreakerPhase.HALF_OPEN:
                self._paused = phase is BreakerPhase.OPEN
            last = self._last
        if begins:
            _log.warning("calls to the cloud pause", status=last.status.value, detail=last.detail)
        elif phase is BreakerPhase.CLOSED:
            _log.info("the cloud answers again")
        return "" if phase is BreakerPhase.CLOSED else str(last)

    def _is_first(self, what: str) -> bool:
        is_first = what not in self._logged
        self._logged.add(what)
        return is_first


def _kind(attempt: Attempt | None) -> str:
    match attempt.encoded_frame.payload if attempt else None:
        case EncodedFeatures():
            return "features"
        case EncodedVideo():
            return VIDEO
        case EncodedTensor():
            return TENSOR
        case _:
            return PICTURE
