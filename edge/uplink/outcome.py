"""How a call to the cloud ends, and who receives that."""

import re
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Protocol

from spillover.common.types import ModelId, Prediction
from spillover.edge.payload.types import EncodedFrame
from spillover.edge.uplink.call_status import CallStatus

# Texts of gRPC core (client_channel and resolver) for a call that found no connection to leave by.
_NO_CONNECTION = re.compile("failed to connect to all addresses|[Nn]ame resolution|DNS resolution|DNS query")


@dataclass(frozen=True, slots=True, eq=False)
class CloudAnswer:
    """The cloud's prediction for one frame, boxes already in pixels of the frame, and where the time went."""

    prediction: Prediction
    model: ModelId
    network_s: float
    server_queue_s: float
    server_decode_s: float
    server_infer_s: float
    sent_bytes: int = 0
    """Payload of the call that was answered."""


@dataclass(frozen=True, slots=True)
class CallFailure:
    """Why there will be no answer; `detail` is free text."""

    status: CallStatus
    detail: str = ""
    unsent: EncodedFrame | None = None
    """The frame, where the same one may be answered another time."""
    pushed_back: bool = False
    """The server named a time to come back: it is full, and has nothing against the frame."""

    @property
    def never_left(self) -> bool:
        """Whether not a byte of the frame was sent, for want of a connection too."""
        if self.status is CallStatus.UNAVAILABLE:
            return _NO_CONNECTION.search(self.detail) is not None
        return self.status.means.never_left

    def __str__(self) -> str:
        return f"{self.status.value}: {self.detail}" if self.detail else self.status.value


CallOutcome = CloudAnswer | CallFailure


class ReplyHandler(Protocol):
    """Receives what becomes of one frame that was handed to the uplink, from any thread."""

    def encoded(self, payload_bytes: int, encode_s: float) -> None:
        """Note the payload that is about to leave, and the seconds that encoding took."""
        ...

    def fall_back(self, option: str, reason: str) -> None:
        """Note that a picture of the form `option` leaves in place of the features, and why."""
        ...

    def complete(self, outcome: CallOutcome) -> None:
        """Take the outcome; called exactly once."""
        ...


class BlockingReply:
    """A `ReplyHandler` for a caller that waits, as the spool's drain does with frames encoded before."""

    def __init__(self) -> None:
        self._outcome: SimpleQueue[CallOutcome] = SimpleQueue()

    def encoded(self, payload_bytes: int, encode_s: float) -> None:
        """Nothing to note."""

    def fall_back(self, option: str, reason: str) -> None:
        """Nothing to note: there is no other form of a frame that waited."""

    def complete(self, outcome: CallOutcome) -> None:
        """Hand the outcome to `wait`."""
        self._outcome.put(outcome)

    def wait(self, timeout_s: float) -> CallOutcome:
        """Wait for the outcome; a failure after `timeout_s` seconds."""
        try:
            return self._outcome.get(timeout=timeout_s)
        except Empty:
            return CallFailure(CallStatus.DEADLINE_EXCEEDED, "the call did not end")
