"""Finished calls for a thread of its own: the event loop never waits for whoever wants to know of them."""

import queue
import threading
import time
from collections.abc import Callable, Sequence

from spillover.cloud.telemetry.calls import FinishedCall

TimedCall = tuple[float, FinishedCall]
"""When it ended, in seconds since 1970, and the call."""


class CallThread:
    """Has `handle` take the calls, in order, at most `at_once` of them together."""

    def __init__(
        self, name: str, waiting: int, handle: Callable[[Sequence[TimedCall]], None], at_once: int = 1
    ) -> None:
        self._handle = handle
        self._at_once = at_once
        self._calls: queue.Queue[TimedCall | None] = queue.Queue(waiting)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, call: FinishedCall) -> bool:
        """Have it handled; False where so many wait that it is left out. Never blocks."""
        try:
            self._calls.put_nowait((time.time(), call))
        except queue.Full:
            return False
        return True

    def ended_by(self, deadline_s: float) -> bool:
        """Handle what waits and end, by `deadline_s` in `time.monotonic()` seconds; False when it hangs."""
        try:
            self._calls.put(None, timeout=max(0.0, deadline_s - time.monotonic()))
        except queue.Full:
            return False
        self._thread.join(max(0.0, deadline_s - time.monotonic()))
        return not self._thread.is_alive()

    def _run(self) -> None:
        more = True
        while more:
            calls, more = self._next()
            if calls:
                self._handle(calls)

    def _next(self) -> tuple[list[TimedCall], bool]:
        """What waits, at most so many at once; and whether the stop has not been asked for."""
        calls: list[TimedCall] = []
        while not calls or (len(calls) < self._at_once and not self._calls.empty()):
            if (ended := self._calls.get()) is None:
                return calls, False
            calls.append(ended)
        return calls, True
