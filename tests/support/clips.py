"""Small clips, drawn on the spot: a bright square that moves over a dark ground."""

from pathlib import Path

import cv2
import numpy as np

from spillover.common.types import Image

WIDTH, HEIGHT = 64, 48


def picture(number: int) -> Image:
    """Frame `number`: the square is two pixels further right than before."""
    image = np.full((HEIGHT, WIDTH, 3), 40, np.uint8)
    left = 4 + 2 * number % 40
    image[16:32, left : left + 16] = 220
    return image


def write_avi(path: Path, count: int, fps: float) -> Path:
    """A Motion-JPEG video, which every OpenCV can write and read."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, (WIDTH, HEIGHT))
    for number in range(count):
        writer.write(picture(number))
    writer.release()
    return path


def write_pictures(folder: Path, count: int) -> Path:
    """A folder of numbered pictures."""
    folder.mkdir(parents=True)
    for number in range(count):
        cv2.imwrite(str(folder / f"{number:06}.png"), picture(number))
    return folder
