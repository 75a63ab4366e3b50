"""Estimates the edge's error rate from random audits, and adapts the threshold to it.

An audit is a frame drawn at random from all frames and sent whatever the policy decides, so its label (the
cloud's answer) is an unbiased sample. The cloud's answer counts as the truth: errors that both share stay
undetected. A frame is kept while its score is below the threshold.
"""

import math
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from spillover.common.log import get_logger
from spillover.common.tasks import agreement
from spillover.common.types import Prediction, Result
from spillover.edge.uplink.outcome import CloudAnswer

_log = get_logger("audits")

LOG_EVERY = 50
"""Audits between two log lines."""
_FINITE = 1e9
"""Replaces infinity, which JSON does not have."""
WINDOW = 500
"""Audits per estimate, and scores whose quantile is the threshold."""
STEP = 0.02
_Z = 1.96


@dataclass(frozen=True, slots=True)
class ErrorEstimate:
    """Share of audited frames kept and wrong, with a 95 % interval (Wilson, 1927), from `audits` frames."""

    error: float
    low: float
    high: float
    audits: int


class Auditor:
    """Counts the edge's errors in audited frames and adapts the threshold to them. Thread-safe.

    An answer agrees from `agree_from` up (1 or 0 for classes, F1 of boxes of at least `report_threshold`).
    With `max_error` the threshold moves so that the share of frames kept and wrong stays there. `observe`
    gets each new estimate.
    """

    def __init__(
        self,
        agree_from: float,
        report_threshold: float,
        max_error: float | None,
        observe: Callable[[ErrorEstimate], None],
    ) -> None:
        self._agree_from = agree_from
        self._report_threshold = report_threshold
        self._max_error = max_error
        self._risk = AuditedRisk(max_error) if max_error is not None else None
        self._observe = observe
        self._lock = threading.Lock()
        self._errors = ErrorWindow()
        self._audits = 0

    def reconfigure(self, agree_from: float, report_threshold: float, max_error: float | None) -> None:
        """Go on with other settings. What was learned stays, and the threshold if `max_error` does."""
        with self._lock:
            self._agree_from, self._report_threshold = agree_from, report_threshold
            if max_error != self._max_error:
                self._max_error = max_error
                self._risk = AuditedRisk(max_error) if max_error is not None else None

    @property
    def threshold(self) -> float | None:
        """The score from which frames are sent; None means that the configured threshold applies."""
        with self._lock:
            if self._risk is None:
                return None
            return min(_FINITE, max(-_FINITE, self._risk.threshold))

    def decided(self, local: Result) -> None:
        """Note the local result of a frame after the policy's decision."""
        score = local.decision.score
        with self._lock:
            if self._risk is not None and score is not None:
                self._risk.saw(score)

    def answered(self, local: Result, answer: CloudAnswer) -> None:
        """Note the cloud's answer to a frame; only audits count."""
        mark = local.decision.audit
        if mark is None:
            return
        agrees = self.agrees(local.prediction, answer.prediction)
        with self._lock:
            loss = mark.would_keep and not agrees
            self._errors.add(loss=loss)
            if self._risk is not None:
                self._risk.audited(loss=loss)
            estimate = self._errors.estimate()
            self._audits += 1
            tells = self._audits % LOG_EVERY == 0
        if estimate is not None:
            self._observe(estimate)
            if tells:
                self.tell(estimate)

    def agrees(self, local: Prediction, cloud: Prediction) -> bool:
        """Whether both answers to a frame say the same."""
        with self._lock:
            threshold, agree_from = self._report_threshold, self._agree_from
        return agreement(local, cloud, confidence=threshold) >= agree_from

    def close(self) -> None:
        """Log the last estimate."""
        with self._lock:
            estimate = self._errors.estimate()
        if estimate is not None:
            self.tell(estimate)

    def tell(self, estimate: ErrorEstimate) -> None:
        """Log an estimate of the error rate."""
        _log.info(
            "edge error",
            kept_and_wrong=round(estimate.error, 4),
            low=round(estimate.low, 4),
            high=round(estimate.high, 4),
            audits=estimate.audits,
            threshold=self.threshold,
        )


class AuditedRisk:
    """Adapts the threshold so that the risk stays at `alpha` while the data drifts.

    After each audit the kept share q changes by step * (alpha - loss), as in adaptive conformal inference
    (Gibbs and Candes, NeurIPS 2021), and the threshold is the q-quantile of the last scores. The mean loss
    over T audits is then within 1 / (step T) of `alpha`, for any sequence of frames.
    """

    def __init__(self, alpha: float, kept_share: float = 0.5, step: float = STEP) -> None:
        self._alpha = alpha
        self._step = step
        self._kept_share = kept_share
        self._scores: deque[float] = deque(maxlen=WINDOW)

    def saw(self, score: float) -> None:
        """Add the score of any frame to the window."""
        self._scores.append(score)

    @property
    def threshold(self) -> float:
        """Frames with a lower score may be kept; -inf without scores."""
        if not self._scores or self._kept_share <= 0:
            return -math.inf
        if self._kept_share >= 1:
            return math.inf
        return float(np.quantile(self._scores, self._kept_share))

    def audited(self, *, loss: bool) -> None:
        """Update the kept share after one audit; `loss` is whether the frame was kept and wrong."""
        moved = self._kept_share + self._step * (self._alpha - loss)
        self._kept_share = min(1.0 + self._step, max(-self._step, moved))


class ErrorWindow:
    """The last 500 audits, from which the daemon reports its error rate."""

    def __init__(self) -> None:
        self._losses: deque[bool] = deque(maxlen=WINDOW)

    def add(self, *, loss: bool) -> None:
        """Add one audit; `loss` is whether the frame was kept and wrong."""
        self._losses.append(loss)

    def estimate(self) -> ErrorEstimate | None:
        """Share and interval; None before the first audit."""
        count = len(self._losses)
        return wilson(sum(self._losses), count) if count else None


def wilson(events: int, count: int) -> ErrorEstimate:
    """Share of `events` in `count` with its 95 % interval, which is valid for few events too."""
    share, z2 = events / count, _Z * _Z
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = _Z / (1 + z2 / count) * math.sqrt(share * (1 - share) / count + z2 / (4 * count * count))
    return ErrorEstimate(share, max(0.0, centre - half), min(1.0, centre + half), count)
