"""A camera source that reads a folder of images, or one image."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from spillover.common.errors import SourceError
from spillover.edge.camera.source import Picture, UnreadablePictureError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})


class FolderSource:
    """The images of a folder in the order of their names; ignores other files.

    Raises:
        SourceError: the folder cannot be listed or holds no image.
    """

    fps: float | None = None
    live = False

    def __init__(self, path: Path) -> None:
        self._path = path
        self._paths = _images(path)
        self._next = 0
        self._any_read = False

    def __len__(self) -> int:
        return len(self._paths)

    def read(self) -> Picture | None:
        """Decode the next image, turned upright by its EXIF orientation; None after the last.

        Raises:
            UnreadablePictureError: this image cannot be decoded.
            SourceError: none of the images could be decoded.
        """
        if self._next >= len(self._paths):
            if not self._any_read:
                raise SourceError(f"camera.source: no image in {self._path} can be decoded")
            return None
        path = self._paths[self._next]
        self._next += 1
        start = time.perf_counter()
        try:
            image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
        except (OSError, cv2.error) as error:
            raise UnreadablePictureError(f"{path}: {error}") from error
        if image is None:
            raise UnreadablePictureError(f"{path}: not an image that OpenCV can decode")
        self._any_read = True
        return Picture(image.astype(np.uint8, copy=False), time.perf_counter() - start, _name(path))

    def rewind(self) -> None:
        """Start again at the first image."""
        self._next = 0

    def close(self) -> None:
        """Do nothing: no file stays open."""


def _name(path: Path) -> str:
    """The file's name as text; bytes that are none would fit into no record."""
    return os.fsencode(path.name).decode(errors="backslashreplace")


def is_image(path: Path) -> bool:
    """Whether the suffix is that of an image."""
    return path.suffix.lower() in SUFFIXES


def _images(path: Path) -> Sequence[Path]:
    if path.is_file():
        return [path]
    try:
        found = sorted((p for p in path.iterdir() if is_image(p)), key=lambda p: p.name)
    except OSError as error:
        raise SourceError(f"camera.source: {error}") from error
    if not found:
        raise SourceError(f"camera.source: no images in {path} (looked for {', '.join(sorted(SUFFIXES))})")
    return found
