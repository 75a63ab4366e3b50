"""A crop in place of a frame: the region that is sent, and the edge's own boxes outside it."""

from dataclasses import dataclass

from spillover.common.types import Detections, Region


@dataclass(frozen=True, slots=True, eq=False)
class Crop:
    """The region of a frame that is sent, and the edge's reported boxes outside it, in pixels of the frame.

    The cloud sees only the crop, so boxes outside it are reported as the edge found them.
    """

    region: Region
    rest: Detections


def crop_of(region: Region, reported: Detections) -> Crop:
    """The crop of a region; a box belongs to the crop if its centre does."""
    x, y = (reported.xyxy[:, :2] + reported.xyxy[:, 2:]).T / 2
    inside = (x >= region.left) & (x < region.right) & (y >= region.top) & (y < region.bottom)
    return Crop(region, reported[~inside])
