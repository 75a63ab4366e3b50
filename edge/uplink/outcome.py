"""The outcomes of a call to the cloud, and the handler that receives them."""

import re
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Protocol

from spillover.common.types import ModelId, Prediction, TrackMark
from spillover.edge.payload.types import EncodedFrame
from spillover.edge.uplink.call_status import CallStatus

# Messages of gRPC core (client_channel and resolver) for a call that found no connection.
_NO_CONNECTION = re.compile("failed to connect to all addresses|[Nn]ame resolution|DNS resolution|DNS query")


@dataclass(frozen=True, slots=True, eq=False)
class CloudAnswer:
    """The cloud's prediction for one frame, boxes already in pixels of the frame, and the call's timings."""

    prediction: Prediction
    model: ModelId
    network_s: float
    server_queue_s: float
    server_decode_s: float
    server_infer_s: float
    sent_bytes: int = 0
    """Payload bytes of the answered call."""
    tracks: tuple[TrackMark, ...] | None = None
    """One a box of `prediction`, in its order; None where nothing is tracked."""


@dataclass(frozen=True, slots=True)
class CallFailure:
    """Why there is no answer; `detail` is free text."""

    status: CallStatus
    detail: str = ""
    unsent: EncodedFrame | None = None
    """The frame, if the same one may be answered later."""
    pushed_back: bool = False
    """The server asked for a pause: it is full and would accept the frame later."""

    @property
    def never_left(self) -> bool:
        """Whether no byte of the frame was sent, also because there was no connection."""
        if self.status is CallStatus.UNAVAILABLE:
            return _NO_CONNECTION.search(self.detail) is not None
        return self.status.means.never_left

    def __str__(self) -> str:
        return f"{self.status.value}: {self.detail}" if self.detail else self.status.value


CallOutcome = CloudAnswer | CallFailure


class ReplyHandler(Protocol):
    """Receives the outcome of one frame that was given to the uplink. Called from any thread."""

    def encoded(self, payload_bytes: int, encode_s: float) -> None:
        """Note the payload that will be sent, and the seconds spent encoding it."""
        ...

    def fall_back(self, option: str, reason: str) -> None:
        """Note that a picture of the form `option` replaces features or video, and why."""
        ...

    def complete(self, outcome: CallOutcome) -> None:
        """Receive the outcome; called exactly once."""
        ...


class BlockingReply:
    """A `ReplyHandler` for a caller that waits, such as the spool's drain, which sends encoded frames."""

    def __init__(self) -> None:
        self._outcome: SimpleQueue[CallOutcome] = SimpleQueue()

    def encoded(self, payload_bytes: int, encode_s: float) -> None:
        """Ignored: a spooled frame's size is already known."""

    def fall_back(self, option: str, reason: str) -> None:
        """Nothing to note: a spooled frame has no other form."""

    def complete(self, outcome: CallOutcome) -> None:
        """Pass the outcome to `wait`."""
        self._outcome.put(outcome)

    def wait(self, timeout_s: float) -> CallOutcome:
        """Wait for the outcome; a failure after `timeout_s` seconds."""
        try:
            return self._outcome.get(timeout=timeout_s)
        except Empty:
            return CallFailure(CallStatus.DEADLINE_EXCEEDED, "the call did not end")
