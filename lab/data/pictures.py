"""Pictures that are read on demand, from a file or an array."""

import hashlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import cv2
import numpy as np

from spillover.common.errors import SourceError
from spillover.common.types import Image
from spillover.edge.camera.source import Picture as CameraPicture
from spillover.edge.camera.source import Source, UnreadablePictureError

T = TypeVar("T")

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})


class Picture(Protocol):
    """One picture of a data set."""

    @property
    def name(self) -> str:
        """Its name in errors and records."""
        ...

    def image(self) -> Image:
        """Read it as BGR (H, W, 3) uint8. Raises SourceError."""
        ...

    def digest(self) -> str:
        """Hex SHA-256 of its content, for caches. Raises SourceError."""
        ...


@dataclass(frozen=True, slots=True)
class FilePicture:
    """A picture file in any format that OpenCV reads."""

    path: Path

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name

    def image(self) -> Image:
        """Read and decode the file."""
        image = cv2.imdecode(np.frombuffer(self._bytes(), np.uint8), cv2.IMREAD_COLOR)
        if image is None:
            raise SourceError(f"{self.path}: not a picture that OpenCV can read")
        return image.astype(np.uint8, copy=False)

    def digest(self) -> str:
        """Digest of the file's bytes."""
        return hashlib.sha256(self._bytes()).hexdigest()

    def _bytes(self) -> bytes:
        try:
            data = self.path.read_bytes()
        except OSError as error:
            raise SourceError(f"{self.path}: {error.strerror or error}") from error
        if not data:
            raise SourceError(f"{self.path}: is empty")
        return data


@dataclass(frozen=True, slots=True, eq=False)
class ArrayPicture:
    """A picture in memory, `rgb` (H, W, 3) uint8."""

    name: str
    rgb: Image

    def image(self) -> Image:
        """The same pixels, channels turned to BGR."""
        return np.ascontiguousarray(self.rgb[:, :, ::-1])

    def digest(self) -> str:
        """Digest of the pixels."""
        return hashlib.sha256(np.ascontiguousarray(self.rgb).tobytes()).hexdigest()


def folder_pictures(folder: Path, limit: int) -> list[Picture]:
    """At most `limit` pictures of a folder and its subfolders, spread evenly over them by name.

    Raises:
        SourceError: the folder is absent or holds no picture.
    """
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not paths:
        raise SourceError(f"{folder}: holds no picture ({', '.join(sorted(SUFFIXES))})")
    count = min(limit, len(paths))
    return [FilePicture(paths[i * len(paths) // count]) for i in range(count)]


def camera_pictures(source: Source) -> Generator[CameraPicture]:
    """The pictures of a file source in the order in which an edge numbers them; closes the source at the end.

    Damaged pictures are left out: an edge gives them no number. Raises SourceError.
    """
    try:
        while True:
            try:
                picture = source.read()
            except UnreadablePictureError:
                continue
            if picture is None:
                return
            yield picture
    finally:
        source.close()


def evenly_spread(items: Sequence[T], count: int) -> list[T]:
    """At most `count` of a sequence, evenly spread, ends included."""
    if len(items) <= count:
        return list(items)
    if count == 1:
        return [items[-1]]
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]
