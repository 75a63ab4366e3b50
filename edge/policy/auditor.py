"""What the edge knows of its own mistakes: random audits, and a threshold that follows them.

The cloud's answer stands for the truth: what both get wrong stays unseen.
"""

import threading
from collections.abc import Callable

from spillover.common.agreement import agreement
from spillover.common.log import get_logger
from spillover.common.types import Result
from spillover.edge.policy.risk import AuditedRisk, ErrorEstimate, ErrorWindow
from spillover.edge.uplink.outcome import CloudAnswer

_log = get_logger("audits")

LOG_EVERY = 50
"""Audits between two lines of the log."""
_FINITE = 1e9
"""In place of infinity, which JSON has not."""


class Auditor:
    """Hears of every score and of the answers to audits. Thread-safe.

    An answer agrees from `agree_from` up (1 or 0 for classes, F1 of boxes of at least `report_threshold`).
    With `max_error` the threshold moves so that the share of frames kept and wrong stays there. `observe`
    hears of each new estimate.
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
        self._risk = AuditedRisk(max_error) if max_error is not None else None
        self._observe = observe
        self._lock = threading.Lock()
        self._errors = ErrorWindow()
        self._audits = 0

    @property
    def threshold(self) -> float | None:
        """From which score frames are sent; None leaves it to the configuration."""
        if self._risk is None:
            return None
        with self._lock:
            return min(_FINITE, max(-_FINITE, self._risk.threshold))

    def decided(self, local: Result) -> None:
        """A frame was decided on."""
        score = local.decision.inputs.get("score")
        if self._risk is not None and score is not None:
            with self._lock:
                self._risk.saw(score)

    def answered(self, local: Result, answer: CloudAnswer) -> None:
        """The cloud has answered a frame that was sent; only audits count."""
        inputs = local.decision.inputs
        if not inputs.get("audit"):
            return
        kept = bool(inputs["would_keep"])
        agrees = agreement(local.prediction, answer.prediction, confidence=self._report_threshold)
        with self._lock:
            loss = kept and agrees < self._agree_from
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

    def close(self) -> None:
        """Say the last estimate."""
        with self._lock:
            estimate = self._errors.estimate()
        if estimate is not None:
            self.tell(estimate)

    def tell(self, estimate: ErrorEstimate) -> None:
        """Into the log."""
        _log.info(
            "edge error",
            kept_and_wrong=round(estimate.error, 4),
            low=round(estimate.low, 4),
            high=round(estimate.high, 4),
            audits=estimate.audits,
            threshold=self.threshold,
        )
