"""Fixed privacy masks: parts of a camera's picture that nobody sees, as if its lens were taped there.

They are painted black before the edge's own model looks. So they hold for whatever is made of the frame
later, sent or stored, for every task; and edge and cloud judge the same picture.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt

from spillover.common.types import Frame
from spillover.edge.config.polygons import Point

MaskFrame = Callable[[Frame], Frame]

_FRACTION_BITS = 8
"""Corners are drawn to a 256th of a pixel."""


def build_masks(polygons: Sequence[Sequence[Point]]) -> MaskFrame | None:
    """The function that paints these parts black, on a copy; None if there are none. For one thread.

    Coordinates are shares of the frame, so that masks hold when a camera changes the size of its pictures.
    """
    if not polygons:
        return None
    seen_parts: dict[tuple[int, int], npt.NDArray[np.uint8]] = {}

    def mask(frame: Frame) -> Frame:
        size = frame.image.shape[:2]
        if (seen := seen_parts.get(size)) is None:
            seen_parts.clear()  # sizes change rarely, and then for good
            seen = seen_parts[size] = _seen_parts(polygons, *size)
        image = cv2.bitwise_and(frame.image, frame.image, mask=seen)
        return replace(frame, image=image.astype(np.uint8, copy=False))

    return mask


def _seen_parts(polygons: Sequence[Sequence[Point]], height: int, width: int) -> npt.NDArray[np.uint8]:
    """255 where a picture is seen (H, W); every pixel that a polygon touches is 0."""
    hidden = np.zeros((height, width), np.uint8)
    for polygon in polygons:
        # A coordinate is a point between pixels, and OpenCV's are the middles of pixels.
        corners = np.array(polygon) * (width, height) - 0.5
        fixed = np.rint(corners * (1 << _FRACTION_BITS)).astype(np.int32)
        cv2.fillPoly(hidden, [fixed], (255,), shift=_FRACTION_BITS)
    grown = cv2.dilate(hidden, np.ones((3, 3), np.uint8))
    seen: npt.NDArray[np.uint8] = (255 - grown).astype(np.uint8)
    return seen
