"""Maps confidences to another scale: a monotone map of log-odds (Platt, 1999), which keeps the boxes' order.

Two detectors' confidences mean different things: a box of 0.5 from one may be right four times as often as a
box of 0.5 from the other. Where both answer, boxes of kept frames would outrank better boxes of sent frames.
`spillover lab fit --calibrate` fits the map from the edge's scale to the cloud's.
"""

import math
from typing import Annotated

import msgspec
import numpy as np

from spillover.common.config import Section
from spillover.common.types import FloatArray

_TINY = 1e-4


class Calibration(Section, frozen=True):
    """`log-odds = offset + scale * log-odds of the network's own confidence`."""

    offset: float
    """Added to the log-odds."""
    scale: Annotated[float, msgspec.Meta(gt=0)]
    """Multiplies the log-odds."""

    def apply(self, confidence: FloatArray) -> FloatArray:
        """Calibrated confidences, float32, same shape; their order is preserved."""
        calibrated: FloatArray = _expit(self.offset + self.scale * log_odds(confidence)).astype(np.float32)
        return calibrated

    def undo(self, confidence: float) -> float:
        """The network's own confidence that maps to this one; 0 and 1 are unchanged."""
        if not 0.0 < confidence < 1.0:
            return confidence
        odds = (math.log(confidence / (1.0 - confidence)) - self.offset) / self.scale
        return float(_expit(np.array(odds)))


def log_odds(confidence: FloatArray) -> np.ndarray:
    """log(c / (1 - c)) in float64, finite at both ends."""
    clipped = np.clip(confidence.astype(np.float64), _TINY, 1.0 - _TINY)
    odds: np.ndarray = np.log(clipped / (1.0 - clipped))
    return odds


def _expit(odds: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * odds)))
