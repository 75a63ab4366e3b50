"""The uplink interface, and an implementation for a daemon without a cloud."""

from collections.abc import Callable
from typing import Protocol

from spillover.common.types import Frame, Prediction
from spillover.edge.link.state import LinkState
from spillover.edge.payload.types import EncodedFrame
from spillover.edge.uplink.call_status import CallStatus
from spillover.edge.uplink.outcome import CallFailure, CallOutcome, ReplyHandler

Reported = Callable[[Prediction], Prediction]
"""Leaves out what is not reported of an answer."""


class Uplink(Protocol):
    """Sends frames to the cloud. Only `deliver`, `wait_until_ready` and `stop` block. Thread-safe."""

    def link(self, camera_id: str = "") -> LinkState:
        """The state of the link now, and the forms in which a frame of this camera can be sent."""
        ...

    def send(
        self,
        frame: Frame,
        deadline_s: float,
        handler: ReplyHandler,
        option: str = "",
        useful_until_s: float = 0.0,
    ) -> None:
        """Encode and send `frame`; `handler` is completed exactly once, whatever happens. Never raises.

        `deadline_s` and `useful_until_s` are on the clock of `time.monotonic`. An answer is late after the
        later of the two, and is awaited for as long after the deadline as the configuration says. `option`
        names the form to send, or is empty for the usual one.
        """
        ...

    def deliver(self, encoded_frame: EncodedFrame, timeout_s: float) -> CallOutcome:
        """Send a frame from the spool and wait for the outcome, at most about `timeout_s` seconds."""
        ...

    def wait_until_ready(self, timeout_s: float) -> bool:
        """Wait at most `timeout_s` seconds until a frame may be sent; tell whether it may.

        For sources without a frame rate, such as folders and files.
        """
        ...

    def report(self, reported: Reported) -> None:
        """Report of answers what `reported` leaves of them, from now on."""
        ...

    def trace(self, share: float | None) -> None:
        """Tell the server each frame's trace from now on; `share` are recorded. None: tell nothing."""
        ...

    def ended(self, camera_id: str) -> None:
        """Note that no frame of this camera will be sent any more."""
        ...

    def stop(self, deadline_s: float) -> bool:
        """Cancel calls in flight; tell whether everything ended by `deadline_s` (`time.monotonic`).

        Parts that have not ended are abandoned and logged by name. Frames sent after `stop` fail at once.
        """
        ...


class NoUplink:
    """The uplink of mode `edge_only`: every frame fails at once. It keeps gRPC out of the process."""

    def link(self, camera_id: str = "") -> LinkState:
        """A link with no calls in flight and no room for any."""
        del camera_id
        return LinkState()

    def send(
        self,
        frame: Frame,
        deadline_s: float,
        handler: ReplyHandler,
        option: str = "",
        useful_until_s: float = 0.0,
    ) -> None:
        """Complete `handler` with the failure NO_UPLINK."""
        del frame, deadline_s, option, useful_until_s
        handler.complete(CallFailure(CallStatus.NO_UPLINK))

    def deliver(self, encoded_frame: EncodedFrame, timeout_s: float) -> CallOutcome:
        """Return the failure NO_UPLINK."""
        del encoded_frame, timeout_s
        return CallFailure(CallStatus.NO_UPLINK)

    def wait_until_ready(self, timeout_s: float) -> bool:
        """Return at once: frames fail without waiting."""
        del timeout_s
        return True

    def report(self, reported: Reported) -> None:
        """There are no answers."""

    def trace(self, share: float | None) -> None:
        """There are no calls."""

    def ended(self, camera_id: str) -> None:
        """Nothing is held for a camera."""

    def stop(self, deadline_s: float) -> bool:
        """True: there is nothing to stop."""
        del deadline_s
        return True
