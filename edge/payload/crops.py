"""A crop in place of a frame: what is cut out, and the cloud's boxes beside the edge's own around it."""

from dataclasses import dataclass

import numpy as np

from spillover.common.types import Detections, Region

NO_BOXES = Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int32))


@dataclass(frozen=True, slots=True, eq=False)
class Crop:
    """What is sent of a frame, and the edge's reported boxes beside it, in pixels of the frame.

    The cloud says nothing of what it has not seen: those boxes stay as they are.
    """

    region: Region
    rest: Detections


def crop_of(region: Region, reported: Detections) -> Crop:
    """The crop of a region; a box lies where its centre does."""
    x, y = (reported.xyxy[:, :2] + reported.xyxy[:, 2:]).T / 2
    inside = (x >= region.left) & (x < region.right) & (y >= region.top) & (y < region.bottom)
    return Crop(
        region, Detections(reported.xyxy[~inside], reported.confidence[~inside], reported.class_id[~inside])
    )


def merged(found: Detections, rest: Detections) -> Detections:
    """The boxes of both, by descending confidence; of equal ones those of `found` first."""
    confidence = np.concatenate([found.confidence, rest.confidence])
    order = np.argsort(-confidence, kind="stable")
    return Detections(
        np.concatenate([found.xyxy, rest.xyxy])[order],
        confidence[order],
        np.concatenate([found.class_id, rest.class_id])[order],
    )
