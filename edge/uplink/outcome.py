"""How a call to the cloud may end, and who is told."""

from dataclasses import dataclass
from typing import Protocol

from spillover.common.types import ModelId, Prediction
from spillover.edge.payload.types import EncodedFrame


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
    """Why there will be no answer: `status` is one of few (gRPC's in lower case), `detail` is free text."""

    status: str
    detail: str = ""
    unsent: EncodedFrame | None = None
    """What was to be sent, where the link is to blame: another time it may get an answer."""
    pushed_back: bool = False
    """Whether the server named a time to come back: it is full, and has nothing against the frame."""

    def __str__(self) -> str:
        return f"{self.status}: {self.detail}" if self.detail else self.status


CallOutcome = CloudAnswer | CallFailure


class ReplyHandler(Protocol):
    """Held by the uplink for one frame; it must be settled exactly once, from any thread."""

    def encoded(self, payload_bytes: int, encode_s: float) -> None:
        """Note what leaves the device for this frame, and the seconds that making it took."""
        ...

    def fall_back(self, option: str, reason: str) -> None:
        """Note that a picture of the form `option` leaves in place of what was chosen, and why."""
        ...

    def complete(self, outcome: CallOutcome) -> None:
        """End the frame's call."""
        ...
