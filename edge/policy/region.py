"""Which part of a frame a detector is in doubt about. Pure functions."""

import math

from spillover.common.images import Region
from spillover.common.types import Detections, Image, Prediction
from spillover.edge.policy.scores import ScoreSettings, doubtful

MARGIN = 0.2
"""Widens the region by this share of itself, on every side: what is around a thing helps to tell it."""
LEAST_SIDE = 0.5
"""Of the frame's shorter side; in a smaller region things would look larger than any in training did."""
MOST_SHARE = 0.7
"""Of the frame's pixels; a larger region saves too little for what is lost beside it."""


def doubtful_region(prediction: Prediction, image: Image, settings: ScoreSettings) -> Region | None:
    """The region around the boxes in doubt, those that `near_threshold` counts, within the frame (H, W, 3).

    None without such a box, and where the region would be nearly the whole frame.
    """
    if not isinstance(prediction, Detections):
        return None
    boxes = prediction.xyxy[doubtful(prediction, settings)]
    if not len(boxes):
        return None
    height, width = image.shape[:2]
    least = math.ceil(LEAST_SIDE * min(height, width))
    (left, top), (right, bottom) = boxes[:, :2].min(axis=0).tolist(), boxes[:, 2:].max(axis=0).tolist()
    x, y = _widened(left, right, least, width), _widened(top, bottom, least, height)
    region = Region(x[0], y[0], x[1], y[1])
    return region if region.share_of(image) <= MOST_SHARE else None


def no_region(prediction: Prediction, image: Image) -> None:
    """What is used where no picture variant is a crop."""
    del prediction, image


def _widened(low: float, high: float, least: int, limit: int) -> tuple[int, int]:
    """The stretch with its margins, at least so long, moved and cut to lie within 0 and `limit`."""
    grow = max(MARGIN * (high - low), (least - (high - low)) / 2)
    begin, end = math.floor(low - grow), math.ceil(high + grow)
    if begin < 0:
        begin, end = 0, max(end, least)
    if end > limit:
        begin, end = min(begin, limit - least), limit
    return max(0, begin), min(limit, end)
