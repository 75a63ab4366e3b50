"""Threads that cannot die in silence: each says how it ended to whoever supervises."""

import threading
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ended:
    """A thread's body returned, or raised `error`; or somebody asked for the end, and `name` says who."""

    name: str
    error: Exception | None = None


OnEnd = Callable[[Ended], None]


class Worker:
    """A named thread running `body` once. Daemonic: one that hangs in a driver does not keep the process."""

    def __init__(self, name: str, body: Callable[[], None], on_end: OnEnd) -> None:
        self.name = name
        self._body = body
        self._on_end = on_end
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def join(self, timeout_s: float) -> bool:
        """Wait for the end, at most `timeout_s` seconds; tell whether it came."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._body()
        except Exception as error:  # noqa: BLE001 - the supervisor raises it again in the main thread
            self._on_end(Ended(self.name, error))
        else:
            self._on_end(Ended(self.name))
