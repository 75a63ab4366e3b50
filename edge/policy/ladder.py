"""What to send: the smallest picture that keeps the gain, fits the link, and is paid for."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from common.types import Detections


@dataclass(frozen=True, slots=True)
class Rung:
    """One way to encode a frame; `kept_gain` is the share of the full picture's gain that is left, 0..1."""

    jpeg_quality: int
    longest_side: int | None
    kept_gain: float


LADDER = (
    Rung(90, None, 1.0),
    Rung(80, 640, 0.97),
    Rung(70, 480, 0.9),
    Rung(60, 320, 0.75),
)
"""A start; `kept_gain` depends on the cloud's input size, and is measured per pair."""

_SMOOTHING = 0.1


class SizeBook:
    """Expects a frame's bytes on each rung from those of frames before, per pixel that is sent."""

    def __init__(self, rungs: Sequence[Rung] = LADDER) -> None:
        # Typical of photographs: a little over one bit a pixel at quality 80.
        self._bytes_per_pixel = {rung: 0.05 + 0.4 * (rung.jpeg_quality / 100) ** 3 for rung in rungs}

    def expected_bytes(self, rung: Rung, width: int, height: int) -> float:
        """Bytes of a width x height frame on this rung."""
        return self._bytes_per_pixel[rung] * _pixels_sent(rung, width, height)

    def encoded(self, rung: Rung, width: int, height: int, payload_bytes: int) -> None:
        """Learn from a frame that was encoded."""
        seen = payload_bytes / _pixels_sent(rung, width, height)
        self._bytes_per_pixel[rung] += _SMOOTHING * (seen - self._bytes_per_pixel[rung])


def _pixels_sent(rung: Rung, width: int, height: int) -> float:
    scale = 1.0 if rung.longest_side is None else min(1.0, rung.longest_side / max(width, height))
    return max(1.0, width * scale * height * scale)


def choose_rung(
    rungs: Sequence[Rung], expected_bytes: Sequence[float], limit_bytes: float, keep: float = 0.95
) -> Rung | None:
    """The smallest rung that keeps at least `keep` of the gain within `limit_bytes`.

    Where none of those fits, the one that fits and keeps most; None when nothing fits.
    """
    fitting = [(rung, size) for rung, size in zip(rungs, expected_bytes, strict=True) if size <= limit_bytes]
    if not fitting:
        return None
    good = [(size, rung) for rung, size in fitting if rung.kept_gain >= keep]
    if good:
        return min(good, key=lambda pair: pair[0])[1]
    return max(fitting, key=lambda pair: (pair[0].kept_gain, -pair[1]))[0]


def doubtful_crop(
    detections: Detections,
    width: int,
    height: int,
    threshold: float,
    band: float,
    margin: float = 0.25,
    largest_share: float = 0.5,
) -> tuple[int, int, int, int] | None:
    """One rectangle (left, top, right, bottom) around all boxes within `band` of `threshold`.

    Widened by `margin` of its size. None when no box is in doubt, or when the rectangle covers more than
    `largest_share` of the frame, where a crop saves too little to lose the rest of the picture.
    """
    boxes = detections.xyxy[np.abs(detections.confidence - threshold) <= band]
    if not len(boxes):
        return None
    left, top = boxes[:, :2].min(axis=0)
    right, bottom = boxes[:, 2:].max(axis=0)
    wider, taller = margin * (right - left), margin * (bottom - top)
    x0, y0 = max(0, int(left - wider)), max(0, int(top - taller))
    x1, y1 = min(width, int(np.ceil(right + wider))), min(height, int(np.ceil(bottom + taller)))
    if x1 <= x0 or y1 <= y0 or (x1 - x0) * (y1 - y0) > largest_share * width * height:
        return None
    return x0, y0, x1, y1
