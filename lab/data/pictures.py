"""A picture that is read only when it is wanted, from a file or an array."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from spillover.common.errors import SourceError
from spillover.common.types import Image


class Picture(Protocol):
    """One picture of a data set."""

    @property
    def name(self) -> str:
        """What errors and records call it."""
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
    """A picture that is in memory already, `rgb` (H, W, 3) uint8."""

    name: str
    rgb: Image

    def image(self) -> Image:
        """The same pixels, channels turned to BGR."""
        return np.ascontiguousarray(self.rgb[:, :, ::-1])

    def digest(self) -> str:
        """Digest of the pixels."""
        return hashlib.sha256(np.ascontiguousarray(self.rgb).tobytes()).hexdigest()
