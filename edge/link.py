"""What a link costs: seconds for a payload, learnt from the calls that were made."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LinkEstimate:
    """Seconds of the network alone: a round trip, and a time for each byte."""

    round_trip_s: float
    seconds_per_byte: float

    def seconds(self, payload_bytes: float) -> float:
        """Predicted time of one call with that payload, the server's own time not included."""
        return self.round_trip_s + payload_bytes * self.seconds_per_byte


PRIOR = LinkEstimate(0.05, 8 / 10e6)
"""Believed before the first call: 50 ms and 10 Mbit/s."""


class LinkFit:
    """Weighted least squares of seconds over bytes, older calls counting less. Not thread-safe.

    Two faint points on the prior's line stay for ever: calls that were all of one size say what that size
    costs, and not how the cost is made up; the prior does that.
    """

    FORGET = 0.9
    """Weight of a call after each further one."""
    _FAINT = 0.05
    _PRIOR_BYTES = (0.0, 50_000.0)

    def __init__(self, prior: LinkEstimate = PRIOR) -> None:
        self._prior = [(size, prior.seconds(size)) for size in self._PRIOR_BYTES]
        self._sums = (0.0, 0.0, 0.0, 0.0, 0.0)

    def note(self, payload_bytes: int, network_s: float) -> None:
        """One call: its payload, and its round trip less the server's own time."""
        old = (self.FORGET * value for value in self._sums)
        new = _moments(float(payload_bytes), network_s)
        self._sums = tuple(a + b for a, b in zip(old, new, strict=True))  # type: ignore[assignment]

    def estimate(self) -> LinkEstimate:
        """The line of least squares, neither of its numbers below zero."""
        weight, x, y, xx, xy = self._sums
        for size, seconds in self._prior:
            parts = _moments(size, seconds)
            weight, x, y, xx, xy = (
                total + self._FAINT * part for total, part in zip((weight, x, y, xx, xy), parts, strict=True)
            )
        slope = max(0.0, (weight * xy - x * y) / (weight * xx - x * x))
        round_trip = (y - slope * x) / weight
        if round_trip < 0:  # a line through the origin then
            return LinkEstimate(0.0, xy / xx)
        return LinkEstimate(round_trip, slope)


def _moments(x: float, y: float) -> tuple[float, float, float, float, float]:
    return 1.0, x, y, x * x, x * y
