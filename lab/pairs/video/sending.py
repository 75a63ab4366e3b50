"""Which frames of a clip are sent: those that a clock of bytes or frames picks, or the product's policy."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from spillover.edge.tracking.stage import TrackSummary
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
