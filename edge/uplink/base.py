"""What an uplink is; and the one of a daemon that has none."""

from typing import Protocol

from spillover.common.types import Frame
from spillover.edge.link.state import LinkState
from spillover.edge.payload.crops import Crop
from spillover.edge.payload.types import Parcel
from spillover.edge.uplink.outcome import CallFailure, Outcome, Ticket


class Uplink(Protocol):
    """Takes frames away. No method but `deliver`, `wait_until_ready` and `close` ever blocks."""

    def link(self, crop_share: float = 0.0) -> LinkState:
        """What is known of the link now; `crop_share` is as `PayloadBook.view` has it."""
        ...

    def send(
        self, frame: Frame, deadline_s: float, ticket: Ticket, option: str = "", crop: Crop | None = None
    ) -> None:
        """Encode and send `frame`; `ticket` is settled once, whatever happens.

        `deadline_s` is on the clock of `time.monotonic`; `option` is the form to send it in, empty the usual;
        `crop` is what a form that cuts one out sends.
        """
        ...

    def deliver(self, parcel: Parcel, timeout_s: float) -> Outcome:
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
        self, frame: Frame, deadline_s: float, ticket: Ticket, option: str = "", crop: Crop | None = None
    ) -> None:
        """Settle at once: there is no link."""
        del frame, deadline_s, option, crop
        ticket.settle(CallFailure("no uplink"))

    def deliver(self, parcel: Parcel, timeout_s: float) -> Outcome:
        """There is no link."""
        del parcel, timeout_s
        return CallFailure("no uplink")

    def wait_until_ready(self, timeout_s: float) -> None:
        """There is nothing to wait for."""

    def close(self) -> None:
        """There is nothing to close."""
