"""Confidence on another scale: a monotone map of log-odds (Platt, 1999), so that no order of boxes changes.

Two detectors' confidences mean different things: a box of 0.5 from one may be right four times as often as a
box of 0.5 from the other. Where both answer, boxes of frames that stay would outrank better boxes of frames
that are sent. `spillover lab fit --calibrate` fits the map that puts the edge's on the cloud's scale.
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
        """Calibrated confidences, float32, any shape; in the same order as those given."""
        calibrated: FloatArray = _expit(self.offset + self.scale * log_odds(confidence)).astype(np.float32)
        return calibrated

    def undo(self, confidence: float) -> float:
        """The network's own confidence that becomes this one; 0 and 1 stay what they are."""
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
