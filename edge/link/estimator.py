"""Estimates the link from every call, to predict whether an answer can be back before the deadline.

All calls share one link, which carries their bytes in turn. So an answer takes as long as the link is busy
with earlier calls, plus bytes / rate, the round trip and the server's time, plus a margin for what varies.
"""

import math
from dataclasses import dataclass

from spillover.edge.link.delivery import PRIOR_BYTES_PER_S, PRIOR_RTT_S, Deliveries, Delivery

DEVIATION_GAIN = 0.25
"""Beta of RFC 6298."""
LEAST_DEVIATION_S, LEAST_DEVIATION_SHARE = 0.002, 0.02
"""The deviation counts as at least this, plus this share of the time until the link has carried the call."""
DEVIATIONS, DEVIATIONS_MIN, DEVIATIONS_MAX = 3.0, 1.5, 10.0
"""How many deviations later than expected an answer may be: at first, and the range in which that adapts."""
LATE_COSTS, ALLOWED_EARNS = 1.0, 0.04
"""Deviations added when an answer was late, and taken off when it took no longer than allowed: in balance at
one late answer in 26.
"""
PROBE_AFTER_S = 0.5
PROBE_BACKOFF = 2.0
PROBE_AFTER_MAX_S = 20.0


@dataclass(frozen=True, slots=True)
class LinkEstimate:
    """An estimate of the link, in seconds and bytes per second."""

    rtt_s: float
    rate_bytes_per_s: float
    deviation_s: float
    server_queue_s: float
    backlog_s: float = 0.0
    """Until the link has carried all earlier calls."""
    deviations: float = DEVIATIONS
    """How many deviations later than expected an answer may be."""

    def latency_s(self, payload_bytes: float, encode_s: float, server_s: float) -> float:
        """Predicted time to the answer, with its margin; it is encoded while the link carries the backlog."""
        least_s = LEAST_DEVIATION_S + LEAST_DEVIATION_SHARE * self.carried_s(payload_bytes, encode_s)
        margin_s = self.deviations * max(self.deviation_s, least_s)
        return self.expected_s(payload_bytes, encode_s, server_s) + margin_s

    def expected_s(self, payload_bytes: float, encode_s: float, server_s: float) -> float:
        """Expected time to the answer."""
        return self.carried_s(payload_bytes, encode_s) + self.rtt_s + self.server_queue_s + server_s

    def carried_s(self, payload_bytes: float, encode_s: float) -> float:
        """Time until the link has carried the payload."""
        return max(encode_s, self.backlog_s) + payload_bytes / self.rate_bytes_per_s


PRIOR = LinkEstimate(PRIOR_RTT_S, PRIOR_BYTES_PER_S, deviation_s=0.0, server_queue_s=0.0)
"""Assumed before the first call."""


@dataclass(frozen=True, slots=True, eq=False)
class Upload:
    """One call from its departure to its end, with what was expected of it then."""

    departed_s: float
    payload_bytes: float
    server_s: float
    """The server's time."""
    expected_s: float
    """Time to the answer."""
    allowed_s: float
    """The same with a margin."""
    is_probe: bool
    """It was alone on the link, and its answer was predicted to be late."""


class LinkEstimator:
    """Learns from every call; `Deliveries` tells round trip and rate.

    The margin is a number of deviations (RFC 6298), of calls in time alone. The number rises by one when an
    answer is late, once for all calls that were under way then, and falls a little with each that takes no
    longer than allowed, as in adaptive conformal inference (Gibbs and Candes, NeurIPS 2021): about one answer
    in 26 may be late, whatever the link does. An answer that takes longer and is in time all the same, as one
    with a far deadline is, tells nothing.

    When a probe is back in time, the link is not what late calls said of it: they are forgotten.
    """

    def __init__(self) -> None:
        self._deliveries = Deliveries()
        self._uploads: list[Upload] = []
        self._last_bytes = 0.0
        self._arrived_s = -math.inf
        """When the last answer would have been here if the server took no time."""
        self._deviation_s: float | None = None
        self._deviations = DEVIATIONS
        self._late_at_s = -math.inf
        self._answers = True
        """Whether the last call was answered, if late: the link is not down."""
        self._last_try_s = -math.inf
        self._probe_after_s = PROBE_AFTER_S
        self._floor_and_rate = (PRIOR.rtt_s, PRIOR.rate_bytes_per_s)

    def estimate(self, now_s: float, server_queue_s: float = 0.0, in_flight: int = 0) -> LinkEstimate:
        """The estimate at `now_s`; an old one is the best guess until the next call ends.

        `in_flight` counts calls, of which some have not departed yet.
        """
        if self._deliveries.forget_old(now_s) and len(self._deliveries):
            self._floor_and_rate = self._deliveries.fitted()
        rtt_s, rate = self._floor_and_rate
        waiting = max(0, in_flight - len(self._uploads))
        backlog_s = self._backlog_s(now_s) + waiting * self._last_bytes / rate
        deviation_s = self._deviation_s or 0.0
        return LinkEstimate(rtt_s, rate, deviation_s, server_queue_s, backlog_s, self._deviations)

    def departed(self, now_s: float, payload_bytes: float, server_s: float, time_left_s: float) -> Upload:
        """Note a started call, and predict its time to the answer; consecutive probes become rarer."""
        link = self.estimate(now_s)
        allowed_s = link.latency_s(payload_bytes, 0.0, server_s)
        expected_s = link.carried_s(payload_bytes, 0.0) + link.rtt_s + server_s
        is_probe = not self._uploads and allowed_s > time_left_s
        upload = Upload(now_s, payload_bytes, server_s, expected_s, allowed_s, is_probe)
        self._uploads.append(upload)
        self._last_bytes = payload_bytes
        self._last_try_s = now_s
        longer_s = min(PROBE_AFTER_MAX_S, self._probe_after_s * PROBE_BACKOFF)
        self._probe_after_s = longer_s if is_probe else PROBE_AFTER_S
        return upload

    def landed(self, upload: Upload) -> None:
        """Note the end of a call, whatever it was."""
        if upload in self._uploads:
            self._uploads.remove(upload)

    def answered(self, upload: Upload, network_s: float, server_s: float, *, in_time: bool) -> bool:
        """Learn from a call that was answered, in time or late.

        Returns whether all that late calls have taught is forgotten. A probe in time lets the next one follow
        the sooner, so that some in a row send all the time.
        """
        self._answers = True
        heals = in_time and upload.is_probe
        is_new_link = heals and self._deliveries.forget_late()
        if heals:
            self._probe_after_s = min(PROBE_AFTER_S, self._probe_after_s / PROBE_BACKOFF) / 2
        took_s = network_s + server_s
        if self._deviation_s is None:
            # RFC 6298 starts with half of the first measurement.
            self._deviation_s = network_s / 2 if in_time else None
        elif in_time and not is_new_link:
            residual_s = abs(took_s - upload.expected_s)
            self._deviation_s += DEVIATION_GAIN * (residual_s - self._deviation_s)
        self._learn(upload, network_s, in_time=in_time, as_allowed=in_time and took_s <= upload.allowed_s)
        return heals

    def timed_out(self, upload: Upload, waited_s: float) -> None:
        """Learn from a call that was abandoned; its network time is a lower bound."""
        self._answers = False
        self._learn(upload, waited_s, in_time=False, as_allowed=False)

    def unreachable(self) -> None:
        """Note that a call could not connect, which says nothing of how quick the link is."""
        self._answers = False

    def may_probe(self, now_s: float) -> bool:
        """Whether to send a frame although its answer looks too late: only calls update the estimate.

        A link that answers late is left alone for longer and longer. When it does not answer, the breaker
        says when to try again.
        """
        return not self._answers or now_s - self._last_try_s >= self._probe_after_s

    def _backlog_s(self, now_s: float) -> float:
        """Seconds until the link has carried all uploads."""
        if not self._uploads:
            return 0.0
        rtt_s, rate = self._floor_and_rate
        free_s = self._arrived_s - rtt_s
        for n, upload in enumerate(self._uploads):
            free_s = max(free_s, upload.departed_s) + upload.payload_bytes / rate
            if n == 0:
                # An answer that is overdue may take as long again.
                free_s += 2 * max(0.0, now_s - (free_s + rtt_s + upload.server_s))
        return max(0.0, free_s - now_s)

    def _learn(self, upload: Upload, network_s: float, *, in_time: bool, as_allowed: bool) -> None:
        arrived_s = upload.departed_s + network_s
        rtt_s, _ = self._floor_and_rate
        was_idle = upload.departed_s + rtt_s >= self._arrived_s
        took_s = network_s if was_idle else max(0.0, arrived_s - self._arrived_s)
        self._deliveries.add(Delivery(arrived_s, upload.payload_bytes, took_s, was_idle, in_time))
        self._floor_and_rate = self._deliveries.fitted()
        self._arrived_s = max(self._arrived_s, arrived_s)
        if as_allowed:
            self._deviations = max(DEVIATIONS_MIN, self._deviations - ALLOWED_EARNS)
        elif not in_time and upload.departed_s >= self._late_at_s:
            self._deviations = min(DEVIATIONS_MAX, self._deviations + LATE_COSTS)
            self._late_at_s = arrived_s
        self.landed(upload)
