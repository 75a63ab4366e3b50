"""One picture of all cameras: where each of them is in it, and how it is painted."""

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from spillover.common.images import encode_jpeg
from spillover.common.types import Image
from spillover.edge.pipeline import Look

LONGEST_SIDE = 640
"""Pixels of the picture that is shown."""
QUALITY = 75

Size = tuple[int, int]
"""Width and height."""


@dataclass(frozen=True, slots=True)
class Tile:
    """The place of one camera's picture in a larger one, in pixels."""

    left: int
    top: int
    width: int
    height: int


def canvas(sizes: Sequence[Size | None]) -> tuple[Size, list[Tile]]:
    """The size of the picture of all cameras, and a tile for each in order; None: no picture yet.

    One camera has the picture to itself. Several are in a grid of cells, 4 by 3, each in the middle of its
    own. None is enlarged beyond its cell, and each keeps its shape.
    """
    if len(sizes) == 1:
        width, height = sizes[0] or (LONGEST_SIDE, LONGEST_SIDE * 3 // 4)
        scale = min(1.0, LONGEST_SIDE / max(width, height))
        whole = max(1, round(width * scale)), max(1, round(height * scale))
        return whole, [Tile(0, 0, *whole)]
    columns = math.ceil(math.sqrt(len(sizes)))
    rows = math.ceil(len(sizes) / columns)
    wide = LONGEST_SIDE // columns
    high = wide * 3 // 4
    tiles = []
    for index, size in enumerate(sizes):
        width, height = size or (4, 3)
        scale = min(wide / width, high / height)
        inner = max(1, int(width * scale)), max(1, int(height * scale))
        left, top = index % columns * wide, index // columns * high
        tiles.append(Tile(left + (wide - inner[0]) // 2, top + (high - inner[1]) // 2, *inner))
    return (wide * columns, high * rows), tiles


def size_of(look: Look | None) -> Size | None:
    """Width and height of a frame."""
    if look is None:
        return None
    height, width = look.job.frame.image.shape[:2]
    return width, height


class Painter:
    """Paints and encodes what viewers see, once for all who see the same; they wait for each other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cameras: tuple[str, ...] = ()
        self._frames: tuple[str, ...] = ()
        self._jpeg = b""
        self.encoded = 0
        """Pictures encoded so far."""

    def jpeg(self, cameras: Sequence[str], looks: Mapping[str, Look]) -> bytes:
        """The newest pictures of `cameras` as one JPEG, with what is to be hidden hidden."""
        names = tuple(cameras)
        frames = tuple(looks[name].result.frame_id if name in looks else "" for name in names)
        with self._lock:
            if (names, frames) != (self._cameras, self._frames):
                image = _painted([looks.get(name) for name in names])
                self._jpeg = encode_jpeg(image, QUALITY, LONGEST_SIDE).data
                self._cameras, self._frames = names, frames
                self.encoded += 1
            return self._jpeg

    def forget(self) -> None:
        """Let go of the last picture."""
        with self._lock:
            self._cameras, self._frames, self._jpeg = (), (), b""


def _painted(looks: Sequence[Look | None]) -> Image:
    if len(looks) == 1 and looks[0] is not None:
        return looks[0].shown().image
    (width, height), tiles = canvas([size_of(look) for look in looks])
    whole: Image = np.zeros((height, width, 3), np.uint8)
    for look, tile in zip(looks, tiles, strict=True):
        if look is not None:
            size = (tile.width, tile.height)
            small = cv2.resize(look.shown().image, size, interpolation=cv2.INTER_AREA)
            whole[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width] = small
    return whole
