"""The interface of picture sources, and the states of a camera."""

import enum
from dataclasses import dataclass
from typing import Protocol

from spillover.common.errors import SourceError
from spillover.common.types import Image


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One decoded BGR picture.

    `read_s` is the seconds that reading and decoding took, without waiting for a camera's next picture;
    `name` is the file's name if the picture has a file of its own.
    """

    image: Image
    read_s: float
    name: str = ""


class CameraState(enum.Enum):
    """Whether a camera gives pictures; the values stand in events, metrics and MQTT topics."""

    OK = "ok"
    """Pictures arrive."""
    FROZEN = "frozen"
    """The same picture arrives again and again; the camera is connected anew."""
    LOST = "lost"
    """No picture arrives; the camera is connected anew."""
    ENDED = "ended"
    """The source has no more pictures."""


class UnreadablePictureError(SourceError):
    """One picture cannot be decoded; the next one may be readable."""


class Source(Protocol):
    """A sequence of pictures. Used by one thread at a time."""

    @property
    def fps(self) -> float | None:
        """Pictures a second, if the source states its rate."""
        ...

    @property
    def live(self) -> bool:
        """Whether the source sets the pace, as a camera does and a file does not."""
        ...

    def read(self) -> Picture | None:
        """Return the next picture, or None at the end.

        Raises:
            UnreadablePictureError: this picture is damaged; read on.
            SourceError: the source is gone.
        """
        ...

    def rewind(self) -> None:
        """Start again at the first picture. Raises SourceError if the source cannot."""
        ...

    def close(self) -> None:
        """Release the file, device or connection."""
        ...
