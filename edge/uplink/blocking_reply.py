"""A call for one who waits for its end, as the spool's drain does."""

from queue import Empty, SimpleQueue

from spillover.edge.uplink.outcome import CallFailure, CallOutcome


class BlockingReply:
    """A ticket for one who waits."""

    def __init__(self) -> None:
        self._outcome: SimpleQueue[CallOutcome] = SimpleQueue()

    def encoded(self, payload_bytes: int, encode_s: float) -> None:
        """It was encoded before."""

    def fall_back(self, option: str, reason: str) -> None:
        """What waited goes as it is, or not at all."""

    def complete(self, outcome: CallOutcome) -> None:
        """Hand it over."""
        self._outcome.put(outcome)

    def wait(self, timeout_s: float) -> CallOutcome:
        """The outcome; a failure after `timeout_s` seconds."""
        try:
            return self._outcome.get(timeout=timeout_s)
        except Empty:
            return CallFailure("deadline_exceeded", "the call did not end")
