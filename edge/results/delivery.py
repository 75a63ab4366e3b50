"""Whether something that was handed to the sinks is safe: one of them has it, whatever happens next."""

import threading


class DeliveryAck:
    """Settled once by each of `sinks` sinks; what no sink is asked to keep is safe."""

    def __init__(self, sinks: int) -> None:
        self._open = sinks
        self._stored = sinks == 0
        self._changed = threading.Condition()

    def complete(self, *, stored: bool) -> None:
        """One sink has flushed it, or will never have it."""
        with self._changed:
            self._open -= 1
            self._stored |= stored
            self._changed.notify_all()

    def wait(self, timeout_s: float) -> bool | None:
        """Whether it is safe; None when that is not known within `timeout_s` seconds."""
        with self._changed:
            known = self._changed.wait_for(lambda: self._stored or not self._open, timeout_s)
            return self._stored if known else None
