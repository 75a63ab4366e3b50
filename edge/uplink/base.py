"""What an uplink is, and the one for a daemon without a cloud."""

from typing import Protocol

from spillover.common.types import Frame
from spillover.edge.link.state import LinkState
from spillover.edge.payload.crops import Crop
from spillover.edge.payload.types import EncodedFrame
from spillover.edge.uplink.call_status import CallStatus
from spillover.edge.uplink.outcome import CallFailure, CallOutcome, ReplyHandler


class Uplink(Protocol):
    """Takes frames to the cloud. Only `deliver`, `wait_until_ready` and `stop` block. Thread-safe."""

    def link(self, crop_share: float = 0.0) -> LinkState:
        """What is known about the link now; `crop_share` is that of `PayloadCostModel.view`."""
        ...

    def send(
        self,
        frame: Frame,
        deadline_s: float,
        handler: ReplyHandler,
        option: str = "",
        crop: Crop | None = None,
    ) -> None:
        """Encode and send `frame`; `handler` is completed exactly once, whatever happens. Never raises.

        `deadline_s` is on the clock of `time.monotonic`. `option` names the form to send, empty the usual
        one; `crop` is what a form that cuts out a crop sends.
        """
        ...

    def deliver(self, encoded_frame: EncodedFrame, timeout_s: float) -> CallOutcome:
        """Send a frame from the spool and wait for the outcome, about `timeout_s` seconds at most."""
        ...

    def wait_until_ready(self, timeout_s: float) -> bool:
        """Wait until a frame may be sent, at most `timeout_s` seconds; tell whether it may.

        For sources that set no pace.
        """
        ...

    def stop(self, deadline_s: float) -> bool:
        """Cancel what is under way; tell whether everything ended by `deadline_s` (`time.monotonic`).

        What has not ended is left behind and named in the log. A frame sent afterwards fails at once.
        """
        ...


class NoUplink:
    """Mode `edge_only`: every frame fails at once. It keeps gRPC out of the process."""

    def link(self, crop_share: float = 0.0) -> LinkState:
        """Nothing in flight, no room."""
        del crop_share
        return LinkState()

    def send(
        self,
        frame: Frame,
        deadline_s: float,
        handler: ReplyHandler,
        option: str = "",
        crop: Crop | None = None,
    ) -> None:
        """Fail at once."""
        del frame, deadline_s, option, crop
        handler.complete(CallFailure(CallStatus.NO_UPLINK))

    def deliver(self, encoded_frame: EncodedFrame, timeout_s: float) -> CallOutcome:
        """Fail at once."""
        del encoded_frame, timeout_s
        return CallFailure(CallStatus.NO_UPLINK)

    def wait_until_ready(self, timeout_s: float) -> bool:
        """Return at once."""
        del timeout_s
        return True

    def stop(self, deadline_s: float) -> bool:
        """Nothing runs."""
        del deadline_s
        return True
