"""Which frames of a clip are sent: those that a clock of bytes or frames picks, or the product's policy."""

from collections import deque
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from spillover.edge.link.byte_budget import Budget, wire_bytes
from spillover.edge.policy.share import thresholds_for
from spillover.edge.tracking.stage import NO_TRACKS, TrackSummary
from spillover.lab.pairs.replay.simulate import LinkAware, ReplayFrame, Setting, SimulatedCall
from spillover.lab.pairs.video.answers import Counts

MARGIN = 1e-9
"""Sums of floats that should be equal differ by less."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What a sender may know of a frame."""

    number: int
    captured_s: float
    tracks: TrackSummary
    since_last_offload_s: float


_BUCKET = 0.1
"""Share of a byte budget that may leave at once, as the daemon has it unless told otherwise."""
_PERIOD_S = 3600.0


class Sender(Protocol):
    """Decides on each frame of a clip, in order."""

    def wants(self, moment: Moment) -> bool:
        """Whether the frame is sent; a yes is acted on."""
        ...


class NoFrame:
    """Sends none, as `edge_only` does."""

    def wants(self, moment: Moment) -> bool:
        """No."""
        del moment
        return False


class ByteClock:
    """Sends at even distances, as often as a share of cloud_only's bytes pays for, and never more.

    Args:
        share: of the bytes that `cloud_only` sends for the whole clip.
        payload_bytes: of each frame in the form that is sent, (N,).
        full_bytes: of each frame in the form that `cloud_only` sends, (N,).
    """

    def __init__(self, share: float, payload_bytes: Counts, full_bytes: Counts) -> None:
        self._payload = payload_bytes
        self._purse = Purse(share, full_bytes)

    def wants(self, moment: Moment) -> bool:
        """Whether what was spent has been earned again, and the clip's last frame will still be paid for."""
        return self._purse.is_due(moment.number) and self._purse.pays(int(self._payload[moment.number]))


class Purse:
    """What a share of cloud_only's bytes, `full_bytes` (N,), has earned by each frame, and what is spent."""

    def __init__(self, share: float, full_bytes: Counts) -> None:
        self._earned = share * np.concatenate([[0], np.cumsum(full_bytes)])
        self._spent = 0.0

    def is_due(self, number: int) -> bool:
        """Whether all that was spent has been earned by frame `number`."""
        return self._spent <= float(self._earned[number]) + MARGIN

    def pays(self, payload_bytes: int) -> bool:
        """Spend so much, if the whole clip earns it; tell whether it did."""
        after = self._spent + payload_bytes
        if after > float(self._earned[-1]) + MARGIN:
            return False
        self._spent = after
        return True


class PolicyClock:
    """Sends what the daemon's policy `auto` sends with a byte budget: frames by their worth to the tracks.

    The budget is hourly, begins empty, and comes in at `share` of what `cloud_only` sends in `seconds`,
    headers counted on both sides. Answers come `late_s` seconds after capture; no call is lost.
    """

    def __init__(
        self, share: float, payload_bytes: Counts, full_bytes: Counts, seconds: float, late_s: float
    ) -> None:
        self._payload = payload_bytes
        self._late_s = late_s
        self._tracks = NO_TRACKS
        self._setting = Setting()
        rate = share * sum(wire_bytes(size) for size in full_bytes.tolist()) / seconds
        most = rate * _PERIOD_S / (1.0 - _BUCKET)
        self._edge = LinkAware(
            self._setting,
            thresholds_for(None, None, else_any=True),
            Budget(most, _PERIOD_S, _BUCKET * most),
            lambda _: self._tracks,
            from_empty=True,
        )
        self._under_way: deque[SimulatedCall] = deque()

    def wants(self, moment: Moment) -> bool:
        """What the policy decides, once the answers that have come by then are known."""
        now_s = moment.captured_s + self._setting.local_s
        while self._under_way and self._under_way[0].ends_s <= now_s:
            self._edge.ended(self._under_way.popleft())
        self._tracks = moment.tracks
        frame = ReplayFrame(moment.captured_s, 0.0, float(self._payload[moment.number]))
        if not self._edge.wants(frame, now_s, len(self._under_way)):
            return False
        departs_s = now_s + self._setting.encode_s
        ends_s = max(departs_s + self._setting.server_s, moment.captured_s + self._late_s)
        in_time = self._late_s <= self._setting.deadline_s
        call = SimulatedCall(frame, departs_s, ends_s, self._setting.server_s, answered=True, in_time=in_time)
        self._under_way.append(call)
        self._edge.departed(call)
        return True


class FrameClock:
    """Sends a share of the frames at even distances, the first included."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._sent = 0

    def wants(self, moment: Moment) -> bool:
        """Whether the share is due."""
        return self.is_due(moment.number)

    def is_due(self, number: int) -> bool:
        """Whether the share is due with frame `number`; a yes is acted on."""
        if self._sent > number * self._share + MARGIN:
            return False
        self._sent += 1
        return True


class AsSent:
    """Sends the frames that were sent when the answers were made: those that took bytes."""

    def __init__(self, payload_bytes: Counts) -> None:
        self._payload = payload_bytes

    def wants(self, moment: Moment) -> bool:
        """Whether its payload took bytes."""
        return bool(self._payload[moment.number])
