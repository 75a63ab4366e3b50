"""How much of a picture has changed: small grey pictures, and the share of pixels in which two differ."""

import cv2
import numpy as np
import numpy.typing as npt

from spillover.common.types import Image

Thumbnail = npt.NDArray[np.uint8]

CHANGED = 20
"""Minimum change in grey levels for a thumbnail pixel to count as changed."""


def thumbnail(image: Image, width: int, height: int) -> Thumbnail:
    """A BGR picture (H, W, 3) as (height, width) grey levels.

    Four pixels are sampled for each, which averages out noise; to read all of a picture takes ten times as
    long.
    """
    sampled = cv2.resize(image, (2 * width, 2 * height), interpolation=cv2.INTER_NEAREST)
    grey = cv2.cvtColor(sampled, cv2.COLOR_BGR2GRAY)
    return cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def changed_share(before: Thumbnail | None, now: Thumbnail) -> float:
    """Share of the pixels that differ by at least 20 grey levels; 0 without an earlier picture."""
    if before is None:
        return 0.0
    return float(np.count_nonzero(cv2.absdiff(before, now) >= CHANGED)) / now.size
