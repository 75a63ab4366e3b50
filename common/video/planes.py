"""BGR pictures as planes Y, U and V and back, alike on both sides."""

import cv2
import numpy as np

from spillover.common.coding import digest_of
from spillover.common.types import Image

Planes = Image
"""Y over U over V as one array (H * 3/2, W) uint8: 4:2:0, BT.601 of limited range, both sides even."""


def planes_of(image: Image) -> Planes:
    """The planes of a BGR picture (H, W, 3) uint8 with even sides."""
    return cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420).astype(np.uint8, copy=False)


def picture_of(planes: Planes) -> Image:
    """The BGR picture (H, W, 3) uint8 of these planes."""
    return cv2.cvtColor(planes, cv2.COLOR_YUV2BGR_I420).astype(np.uint8, copy=False)


def digest_of_planes(planes: Planes) -> int:
    """CRC32C over Y, U and V, row by row."""
    return digest_of(np.ascontiguousarray(planes).data.cast("B"))
