"""What is in the air: a counted cap on calls, and what the server last said about itself."""

import threading
import time
from collections.abc import Iterable

from edge.values import LinkState

PUSHBACK_KEY = "grpc-retry-pushback-ms"
QUEUE_WAIT_KEY = "spillover-queue-wait-us"
LOAD_KEY = "spillover-load"
MAX_PUSHBACK_S = 60.0
"""A server may ask for quiet, not for silence."""


class Flight:
    """Thread-safe state behind `LinkState`."""

    def __init__(self, max_in_flight: int) -> None:
        self._changed = threading.Condition()
        self._max_in_flight = max_in_flight
        self._in_flight = 0
        self._pushback_until_s = 0.0
        self._server_queue_wait_s = 0.0
        self._server_load = 0.0

    def take_off(self) -> None:
        """Count one call."""
        with self._changed:
            self._in_flight += 1

    def land(self) -> None:
        """Count one call less."""
        with self._changed:
            self._in_flight -= 1
            self._changed.notify_all()

    def state(self) -> LinkState:
        """What is known now."""
        with self._changed:
            return LinkState(
                in_flight=self._in_flight,
                max_in_flight=self._max_in_flight,
                pushback_left_s=max(0.0, self._pushback_until_s - time.monotonic()),
                server_queue_wait_s=self._server_queue_wait_s,
                server_load=self._server_load,
            )

    def wait_for_room(self, timeout_s: float) -> None:
        """Wait until below the cap and past any pushback, at most `timeout_s` seconds."""
        limit_s = time.monotonic() + timeout_s
        with self._changed:
            while True:
                now = time.monotonic()
                quiet_s = max(0.0, self._pushback_until_s - now)
                full = self._in_flight >= self._max_in_flight
                if now >= limit_s or not (full or quiet_s):
                    return
                self._changed.wait(limit_s - now if full else min(quiet_s, limit_s - now))

    def wait_until_empty(self, timeout_s: float) -> bool:
        """Wait until nothing is in the air; tell whether that came within `timeout_s` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._in_flight, timeout_s)

    def note_hints(self, metadata: Iterable[tuple[str, str | bytes]]) -> None:
        """Read the server's hints from trailing metadata; what is not a number is passed over."""
        hints = {key: number for key, value in metadata if (number := _number(value)) is not None}
        with self._changed:
            self._server_queue_wait_s = hints.get(QUEUE_WAIT_KEY, self._server_queue_wait_s * 1e6) / 1e6
            self._server_load = hints.get(LOAD_KEY, self._server_load)
            if (pushback_ms := hints.get(PUSHBACK_KEY, 0.0)) > 0:
                self._pushback_until_s = time.monotonic() + min(pushback_ms / 1000, MAX_PUSHBACK_S)


def _number(value: str | bytes) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None
