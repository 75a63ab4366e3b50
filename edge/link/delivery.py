"""Round trip and rate of the link, from the times in which recent calls were carried."""

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

WINDOW_S = 20.0
MOST = 64
RECENT_S = 1.5
"""For the rate, a call that is this much older than the newest weighs 1/e of it."""
PRIOR_RTT_S, PRIOR_BYTES_PER_S = 0.05, 10e6 / 8
"""Assumed before the first call: 50 ms and 10 Mbit/s."""
FAINT = 0.02
"""Weight of two calls of the prior, of 0 and of 50 kB (a real one weighs 1).

They make the fit well-posed when all calls have one size.
"""
_PRIOR_BYTES = (0.0, 50_000.0)


@dataclass(frozen=True, slots=True)
class Delivery:
    """What one call tells of the link: the time for its bytes, alone or with a round trip."""

    ended_s: float
    payload_bytes: float
    took_s: float
    has_round_trip: bool
    in_time: bool


class Deliveries:
    """The last 64 calls of the last 20 s, and sums over them, so that a further one costs little.

    An answer that follows the one before it without a pause of the link tells the time for its bytes alone: a
    sample of the delivery rate (Cardwell et al., "BBR: congestion-based congestion control", ACM Queue 14(5),
    2016). A call on an idle link takes a round trip as well. A least-squares fit separates the two; the round
    trip is at most that of the quickest call, and the rate is that of the last seconds.
    """

    def __init__(self) -> None:
        self._calls: deque[Delivery] = deque()
        self._fit = _Fit()
        self._recent = _Recent()

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, call: Delivery) -> None:
        """Add a call that has ended."""
        if len(self._calls) == MOST:
            self._fit.count(self._calls.popleft(), -1)
        self._calls.append(call)
        self._fit.count(call)
        self._recent.count(call)

    def forget_old(self, now_s: float) -> bool:
        """Drop calls that ended too long ago; tell whether there were any."""
        count = len(self._calls)
        while self._calls and self._calls[0].ended_s < now_s - WINDOW_S:
            self._fit.count(self._calls.popleft(), -1)
        return len(self._calls) < count

    def forget_late(self) -> bool:
        """Drop calls whose answers were late or missing; tell whether there were any."""
        if all(call.in_time for call in self._calls):
            return False
        in_time = [call for call in self._calls if call.in_time]
        self._calls.clear()
        self._fit, self._recent = _Fit(), _Recent()
        for call in in_time:
            self.add(call)
        return True

    def fitted(self) -> tuple[float, float]:
        """Round trip in seconds and rate in bytes per second; needs at least one call."""
        alone = [call for call in self._calls if call.has_round_trip]
        floor_s, s_per_byte = self._fit.solved(alone)
        rate = self._recent.rate(floor_s, s_per_byte)
        last = self._calls[-1]
        if not last.in_time:  # believed at once
            took_s = last.took_s - floor_s if last.has_round_trip else last.took_s
            rate = min(rate, last.payload_bytes / max(took_s, 1e-4))
        return floor_s, max(1.0, rate)


@dataclass(slots=True)
class _Fit:
    """Sums of a least-squares fit: time = has_round_trip * round trip + bytes * seconds per byte."""

    trips: float = 0.0
    trip_bytes: float = 0.0
    trip_s: float = 0.0
    squared_bytes: float = 0.0
    byte_s: float = 0.0

    def count(self, call: Delivery, weight: float = 1.0) -> None:
        """Add a call, or take it away with weight -1."""
        size, took_s = call.payload_bytes, call.took_s
        self.squared_bytes += weight * size * size
        self.byte_s += weight * size * took_s
        if call.has_round_trip:
            self.trips += weight
            self.trip_bytes += weight * size
            self.trip_s += weight * took_s

    def solved(self, alone: Iterable[Delivery]) -> tuple[float, float]:
        """Round trip in seconds, at most that of any call in `alone`, and seconds per byte."""
        fit = _Fit(self.trips, self.trip_bytes, self.trip_s, self.squared_bytes, self.byte_s)
        # The prior splits the time of equally large calls into its parts; it does not set their total.
        scale = min((call.took_s / _prior_s(call.payload_bytes) for call in alone), default=1.0)
        for size in _PRIOR_BYTES:
            fit.count(Delivery(0.0, size, scale * _prior_s(size), has_round_trip=True, in_time=True), FAINT)
        determinant = fit.trips * fit.squared_bytes - fit.trip_bytes**2
        s_per_byte = max(0.0, (fit.trips * fit.byte_s - fit.trip_bytes * fit.trip_s) / determinant)
        floor_s = max(0.0, (fit.trip_s - s_per_byte * fit.trip_bytes) / fit.trips)
        return min(floor_s, min((call.took_s for call in alone), default=math.inf)), s_per_byte


@dataclass(slots=True)
class _Recent:
    """Sums over all calls, each of which fades with its age."""

    newest_s: float = 0.0
    squared_bytes: float = 0.0
    byte_s: float = 0.0
    trip_bytes: float = 0.0

    def count(self, call: Delivery) -> None:
        """Add a call."""
        fades = math.exp(min(0.0, (self.newest_s - call.ended_s) / RECENT_S))
        size = call.payload_bytes
        self.newest_s = max(self.newest_s, call.ended_s)
        self.squared_bytes = fades * self.squared_bytes + size * size
        self.byte_s = fades * self.byte_s + size * call.took_s
        self.trip_bytes = fades * self.trip_bytes + size * call.has_round_trip

    def rate(self, floor_s: float, s_per_byte: float) -> float:
        """Bytes per second; it leans faintly on the whole window's seconds per byte.

        Small calls, which are mostly round trip, weigh as in a line fit: by their size.
        """
        faint = FAINT * _PRIOR_BYTES[-1] ** 2
        seconds = faint * s_per_byte + self.byte_s - floor_s * self.trip_bytes
        return (faint + self.squared_bytes) / max(seconds, 1e-9)


def _prior_s(payload_bytes: float) -> float:
    return PRIOR_RTT_S + payload_bytes / PRIOR_BYTES_PER_S
