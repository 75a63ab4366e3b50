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
        self._share = share
        self._payload = payload_bytes
        self._earned = share * np.concatenate([[0], np.cumsum(full_bytes)])
        self._spent = 0.0

    def wants(self, moment: Moment) -> bool:
        """Whether what was spent has been earned again, and the clip's last frame will still be paid for."""
        after = self._spent + float(self._payload[moment.number])
        due = self._spent <= self._earned[moment.number] + MARGIN
        if not due or after > self._earned[-1] + MARGIN:
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
        if self._sent > moment.number * self._share + MARGIN:
            return False
        self._sent += 1
        return True
