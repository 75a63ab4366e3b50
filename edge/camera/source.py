"""What a source of pictures is."""

from dataclasses import dataclass
from typing import Protocol

from spillover.common.errors import SourceError
from spillover.common.types import Image


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One decoded BGR picture.

    `read_s` is the seconds that reading and decoding took, without those spent waiting for a camera's next
    picture; `name` is its file's, where it has one of its own.
    """

    image: Image
    read_s: float
    name: str = ""


class UnreadablePictureError(SourceError):
    """One picture cannot be decoded; the next one may be."""


class Source(Protocol):
    """Gives pictures one after the other. Used by one thread at a time."""

    @property
    def fps(self) -> float | None:
        """Pictures a second as the source states it; None when it does not."""
        ...

    @property
    def live(self) -> bool:
        """Whether the source sets its own pace: a camera does, a file does not."""
        ...

    def read(self) -> Picture | None:
        """The next picture, or None at the end.

        Raises:
            UnreadablePictureError: this one is damaged; read on.
            SourceError: the source is gone.
        """
        ...

    def rewind(self) -> None:
        """Begin again. Raises SourceError where that cannot be done."""
        ...

    def close(self) -> None:
        """Let go of the file or device."""
        ...
