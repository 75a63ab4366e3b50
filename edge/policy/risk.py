"""A bound on "kept on the device and wrong", held by random audits.

An audit is a frame sent whatever the policy says, drawn at random from all frames, so that its label (the
cloud's answer) is an unbiased sample. A frame is kept while its score is below the threshold.
"""

import math
from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

WINDOW = 500
STEP = 0.02
_Z = 1.96


def threshold_for_risk(scores: npt.NDArray[np.float64], wrong: npt.NDArray[np.bool_], alpha: float) -> float:
    """The highest threshold whose risk is bounded: (n R(t) + 1) / (n + 1) <= alpha.

    R(t) is the share of frames with score < t whose local answer is wrong. Conformal risk control
    (Angelopoulos et al., ICLR 2024): on new frames of the same kind the expected risk is at most `alpha`.
    -inf (send all) where even that cannot be shown, inf (keep all) where every threshold is safe.
    """
    count = len(scores)
    allowed = alpha * (count + 1) - 1
    if allowed < 0:
        return -math.inf
    # The loss steps up just above the score of each wrong frame: one more than allowed must not be kept.
    bad = np.sort(scores[wrong])
    most = int(allowed)
    return float(bad[most]) if most < len(bad) else math.inf


@dataclass(frozen=True, slots=True)
class ErrorEstimate:
    """Share of audited frames kept and wrong, with a 95 % interval (Wilson, 1927), from `audits` frames."""

    error: float
    low: float
    high: float
    audits: int


class AuditedRisk:
    """Moves the threshold so that the risk stays at `alpha` while the world drifts.

    After each audit the kept share q changes by step * (alpha - loss), as in adaptive conformal inference
    (Gibbs and Candes, NeurIPS 2021), and the threshold is the q-quantile of the last scores. The mean loss
    over T audits is then within 1 / (step T) of `alpha`, however the frames are distributed.
    """

    def __init__(self, alpha: float, kept_share: float = 0.5, step: float = STEP) -> None:
        self._alpha = alpha
        self._step = step
        self._kept_share = kept_share
        self._scores: deque[float] = deque(maxlen=WINDOW)

    def saw(self, score: float) -> None:
        """Note the score of any frame."""
        self._scores.append(score)

    @property
    def threshold(self) -> float:
        """Frames with a lower score may be kept; -inf until scores are known."""
        if not self._scores or self._kept_share <= 0:
            return -math.inf
        if self._kept_share >= 1:
            return math.inf
        return float(np.quantile(self._scores, self._kept_share))

    def audited(self, *, loss: bool) -> None:
        """A frame that was drawn at random was kept and wrong, or not."""
        moved = self._kept_share + self._step * (self._alpha - loss)
        self._kept_share = min(1.0 + self._step, max(-self._step, moved))


class ErrorWindow:
    """The last 500 audits: what the daemon reports of itself."""

    def __init__(self) -> None:
        self._losses: deque[bool] = deque(maxlen=WINDOW)

    def add(self, *, loss: bool) -> None:
        """One audited frame was kept and wrong, or not."""
        self._losses.append(loss)

    def estimate(self) -> ErrorEstimate | None:
        """Share and interval; None before the first audit."""
        count = len(self._losses)
        return wilson(sum(self._losses), count) if count else None


def wilson(events: int, count: int) -> ErrorEstimate:
    """Share of `events` in `count` with its 95 % interval; right for few events as well."""
    share, z2 = events / count, _Z * _Z
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = _Z / (1 + z2 / count) * math.sqrt(share * (1 - share) / count + z2 / (4 * count * count))
    return ErrorEstimate(share, max(0.0, centre - half), min(1.0, centre + half), count)
