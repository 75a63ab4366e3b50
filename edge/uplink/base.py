"""What an uplink is; and the one of a daemon that has none."""

from typing import Protocol

from common.types import Frame
from edge.values import CallFailure, LinkState, Outcome, Parcel, Ticket


class Uplink(Protocol):
    """Takes frames away. No method but `deliver`, `wait_until_ready` and `close` ever blocks."""

    def link(self) -> LinkState:
        """What is known of the link now."""
        ...

    def send(self, frame: Frame, deadline_s: float, ticket: Ticket, option: str = "") -> None:
        """Encode and send `frame`; `ticket` is settled once, whatever happens.

        `deadline_s` is on the clock of `time.monotonic`; `option` is the form to send it in, empty the usual.
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

    def link(self) -> LinkState:
        """Nothing in flight, no room."""
        return LinkState()

    def send(self, frame: Frame, deadline_s: float, ticket: Ticket, option: str = "") -> None:
        """Settle at once: there is no link."""
        del frame, deadline_s, option
        ticket.settle(CallFailure("no uplink"))

    def deliver(self, parcel: Parcel, timeout_s: float) -> Outcome:
        """There is no link."""
        del parcel, timeout_s
        return CallFailure("no uplink")

    def wait_until_ready(self, timeout_s: float) -> None:
        """There is nothing to wait for."""

    def close(self) -> None:
        """There is nothing to close."""
