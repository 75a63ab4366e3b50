"""Estimates the link from every call, to predict whether an answer can be back before the deadline."""

import math
from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

WINDOW_S = 20.0
SAMPLES = 64
FAINT = 0.05
"""Weight of two pseudo-samples from the prior (a call weighs 1).

They make the fit well-posed when all calls have one size.
"""
RATE_QUANTILE = 0.25
"""The rate estimate is this quantile: three of four recent transfers were at least as fast."""
DEVIATION_GAIN = 0.25
"""Beta of RFC 6298."""
DEVIATIONS = 3.0
PROBE_AFTER_S = 2.0
PROBE_BACKOFF = 1.5
PROBE_AFTER_MAX_S = 20.0
HEALED = 0.5
"""When the first in-time call after late ones takes less than this share of the predicted time, the link has
changed, and the samples of the old link are discarded.
"""


@dataclass(frozen=True, slots=True)
class LinkEstimate:
    """An estimate of the link, in seconds and bytes per second."""

    rtt_s: float
    rate_bytes_per_s: float
    deviation_s: float
    server_queue_s: float
    server_infer_s: float

    def latency_s(self, payload_bytes: float, encode_s: float) -> float:
        """Predicted time to the answer: encode + bytes / rate + RTT + queue + inference + 3 deviations."""
        return (
            encode_s
            + payload_bytes / self.rate_bytes_per_s
            + self.rtt_s
            + self.server_queue_s
            + self.server_infer_s
            + DEVIATIONS * self.deviation_s
        )


PRIOR = LinkEstimate(
    rtt_s=0.05, rate_bytes_per_s=10e6 / 8, deviation_s=0.0, server_queue_s=0.0, server_infer_s=0.0
)
"""Assumed before the first call: 50 ms and 10 Mbit/s."""
_PRIOR_BYTES = (0.0, 50_000.0)


@dataclass(frozen=True, slots=True)
class Transfer:
    """One call: when it ended, how many bytes it carried, and its network time.

    `payload_bytes` includes bytes of earlier calls that were still queued, because the link carried them
    first.
    """

    ended_s: float
    payload_bytes: float
    network_s: float


class LinkEstimator:
    """Learns from every call and forgets calls older than 20 s.

    A least-squares line through (bytes, seconds) gives the round-trip floor at zero bytes, bounded by the
    quickest call. The rate is a low quantile of the rates that recent transfers reached above that floor,
    each weighted by its size squared. The residual is the rest; its mean deviation follows RFC 6298.
    """

    def __init__(self) -> None:
        self._transfers: deque[Transfer] = deque(maxlen=SAMPLES)
        self._deviation_s = 0.0
        self._queue_s = 0.0
        self._infer_s = 0.0
        self._last_try_s = -math.inf
        self._probe_after_s = PROBE_AFTER_S
        self._was_in_time = True
        self._floor_and_rate: tuple[float, float] | None = None

    def answered(
        self, transfer: Transfer, server_queue_s: float, server_infer_s: float, *, in_time: bool
    ) -> None:
        """Add a call that was answered, in time or late.

        An in-time answer lets the next probe follow soon.
        """
        if in_time:
            self._probe_after_s = PROBE_AFTER_S
        self._queue_s = server_queue_s
        self._infer_s += (
            DEVIATION_GAIN * (server_infer_s - self._infer_s) if self._infer_s else server_infer_s
        )
        self._learn(transfer, in_time=in_time)

    def timed_out(self, transfer: Transfer) -> None:
        """Add a call that was abandoned; its network time is a lower bound."""
        self._learn(transfer, in_time=False)

    def estimate(self, now_s: float) -> LinkEstimate | None:
        """The estimate at `now_s`; None without recent calls."""
        while self._transfers and self._transfers[0].ended_s < now_s - WINDOW_S:
            self._transfers.popleft()
            self._floor_and_rate = None
        if not self._transfers:
            return None
        # Every frame reads the estimate, but only calls change it, so it is cached.
        if self._floor_and_rate is None:
            self._floor_and_rate = _floor_and_rate(self._transfers)
        rtt_s, rate = self._floor_and_rate
        return LinkEstimate(rtt_s, rate, self._deviation_s, self._queue_s, self._infer_s)

    def may_probe(self, now_s: float) -> bool:
        """Whether to send a frame although its answer looks too late: only calls update the estimate."""
        return now_s - self._last_try_s >= self._probe_after_s

    def tried(self, now_s: float, *, probe: bool) -> None:
        """Note a sent frame; consecutive probes become rarer."""
        self._last_try_s = now_s
        longer_s = min(PROBE_AFTER_MAX_S, self._probe_after_s * PROBE_BACKOFF)
        self._probe_after_s = longer_s if probe else PROBE_AFTER_S

    def _learn(self, transfer: Transfer, *, in_time: bool) -> None:
        known = self.estimate(transfer.ended_s)
        expected_s = transfer.payload_bytes / known.rate_bytes_per_s + known.rtt_s if known else 0.0
        if in_time and not self._was_in_time and transfer.network_s < HEALED * expected_s:
            self._transfers.clear()
        if self._transfers:
            residual_s = abs(transfer.network_s - expected_s)
            self._deviation_s += DEVIATION_GAIN * (residual_s - self._deviation_s)
        else:
            # RFC 6298 starts with half of the first measurement.
            self._deviation_s = transfer.network_s / 2
        self._transfers.append(transfer)
        self._floor_and_rate = None
        self._was_in_time = in_time


def _floor_and_rate(transfers: deque[Transfer]) -> tuple[float, float]:
    size = np.array([t.payload_bytes for t in transfers])
    seconds = np.array([t.network_s for t in transfers])
    # The prior splits the time of equally large calls into its parts; it does not set their total.
    scale = float((seconds / [PRIOR.latency_s(x, 0.0) for x in size]).min())
    faint = [scale * PRIOR.latency_s(x, 0.0) for x in _PRIOR_BYTES]
    x, y = np.append(size, _PRIOR_BYTES), np.append(seconds, faint)
    weight = np.append(np.ones(len(size)), [FAINT, FAINT])
    mean_x, mean_y = np.average(x, weights=weight), np.average(y, weights=weight)
    slope = max(0.0, float(weight @ ((x - mean_x) * (y - mean_y)) / (weight @ (x - mean_x) ** 2)))
    floor_s = float(np.clip(mean_y - slope * mean_x, 0.0, seconds.min()))
    # Small calls are mostly round trip, so a rate sample weighs as in a line fit: by its size squared.
    rates = x / np.maximum(y - floor_s, 1e-4)
    return floor_s, max(1.0, _quantile(rates, weight * x**2, RATE_QUANTILE))


def _quantile(values: npt.NDArray[np.float64], weights: npt.NDArray[np.float64], share: float) -> float:
    """Weighted quantile: the value below which `share` of the weight lies."""
    order = np.argsort(values)
    reached = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(reached, share * reached[-1])])
