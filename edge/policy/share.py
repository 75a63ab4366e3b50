"""From which score on frames are sent: a fixed threshold, or one that sends about a share of all frames."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from spillover.edge.policy.budget import Rank

DEFAULT_SHARE = 0.1
WINDOW = 300
"""Number of recent frames whose scores the threshold is taken from; more if fewer than `_TOP` would pass."""
_TOP = 20
_MOST = 20_000
LEAST_SEEN = 20
"""With fewer scores than this, every n-th frame is sent whatever its score."""
_SPREAD = 200
"""The credit holds what so many frames earn: a difficult stretch may have it at once."""
_LEAST_CREDIT = 5.0
MOST_CREDIT = 100.0
"""So far it grows while all scores fall, and none is among the highest of late: then lower ones pass."""
_ANY_GAIN = math.ulp(0.0)
"""The least threshold that a score of 0 does not reach."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """The threshold in force for one frame.

    `tie_credit` says whether a score that equals it is enough, from 1 up; None: it always is.
    """

    score: float
    tie_credit: float | None = None

    def passes(self, score: float) -> bool:
        """Whether a frame with this score is to be sent."""
        ties = self.tie_credit is None or self.tie_credit >= 1
        return score > self.score or (score == self.score and ties)


class Thresholds(Protocol):
    """Gives the threshold for one frame after the other."""

    def for_frame(self, score: float, *, learns: bool = True) -> Threshold:
        """The threshold for a frame with this score; call it once for every frame, in their order.

        Without `learns` the score says nothing of those of other frames.
        """
        ...


@dataclass(frozen=True, slots=True)
class FixedThreshold:
    """The same for every frame."""

    score: float

    def for_frame(self, score: float, *, learns: bool = True) -> Threshold:
        """The threshold."""
        del score, learns
        return Threshold(self.score)


class RunningShare:
    """Sends about `share` of all frames, those of the highest scores, whatever the unit of the scores.

    The threshold is a quantile of the last `WINDOW` scores. Which quantile, a credit in frames says, as the
    bucket of `RankRule` does in bytes: each frame earns `share`, each that passes costs 1. At half of its
    capacity the best `share` pass, at all of it twice as many, without credit none. So the share holds while
    scores drift, and of n frames in a row no more than `share` n and the credit before them pass.

    Equal scores, such as counts, would all pass or none: of those at the threshold every n-th passes (error
    diffusion), so many that the share holds. A score of 0 or less gains nothing and never passes. Before
    `LEAST_SEEN` scores every n-th frame passes; `seen`, scores of other pictures, takes the place of those.
    """

    def __init__(self, share: float, seen: Sequence[float] = ()) -> None:
        self._share = share
        self._capacity = max(_LEAST_CREDIT, share * _SPREAD)
        self._most = max(self._capacity, MOST_CREDIT)
        self._credit = self._capacity / 2
        self._ties = 1 - share  # so that the first frame tells what the link is like
        self._rank = Rank(min(_MOST, max(WINDOW, math.ceil(_TOP / share))))
        for score in seen:
            self._rank.add(score)

    def for_frame(self, score: float, *, learns: bool = True) -> Threshold:
        """The threshold for this frame; the score joins the window after that, if it `learns`."""
        threshold = self._threshold(score)
        passes = threshold.passes(score)
        if passes and score == threshold.score:
            self._ties -= 1
        most = self._most if score > 0 else self._capacity
        earned = self._credit + self._share - passes
        self._credit = max(0.0, min(earned, max(most, self._credit)))
        if learns:
            self._rank.add(score)
        return threshold

    def _threshold(self, score: float) -> Threshold:
        if self._credit < 1:
            return Threshold(max(score, 0.0), 0.0)
        scores = self._rank.ordered
        if len(scores) < LEAST_SEEN:
            self._ties = min(1.0, self._ties + self._share)
            return Threshold(score, self._ties) if score > 0 else Threshold(0.0, 0.0)
        wanted = min(1.0, 2 * self._share * self._credit / self._capacity) * len(scores)
        position = len(scores) - 1 - math.floor(wanted)
        if position < 0 or scores[position] <= 0:
            return Threshold(0.0, 0.0)
        found = scores[position]
        low, high = bisect_left(scores, found), bisect_right(scores, found)
        if score == found:
            self._ties += (wanted - (len(scores) - high)) / (high - low)
        return Threshold(found, self._ties)


def thresholds_for(
    send_share: float | None, threshold: float | None, *, else_any: bool, seen: Sequence[float] = ()
) -> Thresholds:
    """What `policy` in edge.yaml asks for: one of the two at most is given.

    With neither: `else_any` sends whatever gains anything, else a share of 0.1 is sent. `seen` as in
    `RunningShare`.
    """
    if threshold is not None:
        return FixedThreshold(threshold)
    if send_share is None and else_any:
        return FixedThreshold(_ANY_GAIN)
    return RunningShare(DEFAULT_SHARE if send_share is None else send_share, seen)
