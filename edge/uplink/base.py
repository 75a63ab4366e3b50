"""What an uplink is; and the one of a daemon that has none."""

from typing import Protocol

from spillover.common.types import Frame
from spillover.edge.link.state import LinkState
from spillover.edge.payload.crops import Crop
from spillover.edge.payload.types import EncodedFrame
from spillover.edge.uplink.outcome import CallFailure, CallOutcome, ReplyHandler


class Uplink(Protocol):
    """Takes frames away. No method but `deliver`, `wait_until_ready` and `close` ever blocks."""

    def link(self, crop_share: float = 0.0) -> LinkState:
        """What is known of the link now; `crop_share` is as `PayloadCostModel.view` has it."""
        ...

    def send(
        self,
        frame: Frame,
        deadline_s: float,
        handler: ReplyHandler,
        option: str = "",
        crop: Crop | None = None,
    ) -> None:
        """Encode and send `frame`; `handler` is settled once, whatever happens.

        `deadline_s` is on the clock of `time.monotonic`; `option` is the form to send it in, empty the usual;
        `crop` is what a form that cuts one out sends.
        """
        ...

    def deliver(self, encoded_frame: EncodedFrame, timeout_s: float) -> CallOutcome:
        """Send what waited on the disk; blocks at most `timeout_s` seconds."""
        ...

    def wait_until_ready(self, timeout_s: float) -> None:
        """Wait until a frame could be sent, at most `timeout_s` seconds: for work that no camera drives."""
        ...

    def close(self) -> None:
        """Cancel what is under way; every ticket is settled when this returns."""
        ...


class NoUplink:
    """Mode `edge_only`: nothing can be sent. It keeps gRPC out of the process."""

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
        """Settle at once: there is no link."""
        del frame, deadline_s, option, crop
        handler.complete(CallFailure("no uplink"))

    def deliver(self, encoded_frame: EncodedFrame, timeout_s: float) -> CallOutcome:
        """There is no link."""
        del encoded_frame, timeout_s
        return CallFailure("no uplink")

    def wait_until_ready(self, timeout_s: float) -> None:
        """There is nothing to wait for."""

    def close(self) -> None:
        """There is nothing to close."""
