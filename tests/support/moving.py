"""A scene that moves in a known way: textured objects over a textured background, seen by a camera."""

import functools
from dataclasses import dataclass

import cv2
import numpy as np

from spillover.common.types import Detections, Image

WIDTH, HEIGHT = 320, 240


@functools.lru_cache(maxsize=16)
def texture(height: int, width: int, seed: int) -> Image:
    """Soft noise that flow can hold on to."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    soft = cv2.GaussianBlur(noise, (0, 0), 2.0).astype(np.float32)
    grey: Image = ((soft - soft.min()) / (soft.max() - soft.min()) * 255).astype(np.uint8)
    return grey


@dataclass(frozen=True)
class Walker:
    """An object that moves evenly: left top corner at frame 0, pixels a frame, and size."""

    x: float
    y: float
    dx: float = 0.0
    dy: float = 0.0
    width: int = 40
    height: int = 60
    class_id: int = 0

    def xyxy(self, frame: float) -> tuple[float, float, float, float]:
        """Where it is at a frame."""
        left, top = self.x + self.dx * frame, self.y + self.dy * frame
        return left, top, left + self.width, top + self.height


@dataclass(frozen=True)
class World:
    """Walkers before a background that the camera moves over by `camera` pixels a frame."""

    walkers: tuple[Walker, ...]
    camera: tuple[float, float] = (0.0, 0.0)
    seed: int = 1

    def picture(self, frame: int) -> Image:
        """The picture of a frame (240, 320, 3)."""
        big = texture(HEIGHT + 200, WIDTH + 200, self.seed)
        x, y = (round(100 - moved * frame) for moved in self.camera)
        image = big[y : y + HEIGHT, x : x + WIDTH].copy()
        for number, walker in enumerate(self.walkers):
            left, top, right, bottom = (round(side) for side in walker.xyxy(frame))
            inner = texture(walker.height, walker.width, self.seed * 100 + number)
            x0, y0, x1, y1 = max(0, left), max(0, top), min(WIDTH, right), min(HEIGHT, bottom)
            if x0 < x1 and y0 < y1:
                image[y0:y1, x0:x1] = inner[y0 - top : y1 - top, x0 - left : x1 - left]
        return image

    def boxes(self, frame: float, confidence: float = 0.8, *walkers: int) -> Detections:
        """Boxes of the walkers of these numbers (all without any), as a perfect detector gives them."""
        chosen = [self.walkers[number] for number in walkers] if walkers else self.walkers
        return Detections(
            np.array([walker.xyxy(frame) for walker in chosen], np.float32).reshape(-1, 4),
            np.full(len(chosen), confidence, np.float32),
            np.array([walker.class_id for walker in chosen], np.int32),
        )
