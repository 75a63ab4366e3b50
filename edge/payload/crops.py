"""A crop in place of a frame: what is cut out, and the edge's own boxes around it."""

from dataclasses import dataclass

from spillover.common.types import Detections, Region


@dataclass(frozen=True, slots=True, eq=False)
class Crop:
    """What is sent of a frame, and the edge's reported boxes beside it, in pixels of the frame.

    The cloud sees the crop alone, so the boxes beside it are reported as the edge found them.
    """

    region: Region
    rest: Detections


def crop_of(region: Region, reported: Detections) -> Crop:
    """The crop of a region; a box belongs to it when its centre does."""
    x, y = (reported.xyxy[:, :2] + reported.xyxy[:, 2:]).T / 2
    inside = (x >= region.left) & (x < region.right) & (y >= region.top) & (y < region.bottom)
    return Crop(region, reported[~inside])
