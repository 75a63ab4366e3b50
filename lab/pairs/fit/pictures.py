"""Pictures to learn from a cloud's answers: labelled or not, of a folder, or the frames of a clip."""

from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path

from spillover.common.errors import SourceError
from spillover.common.types import Image
from spillover.lab.data.labelled import (
    COCO_FILE,
    LABELS_FILE,
    PictureSet,
    UnlabelledSet,
    open_labelled_set,
)
from spillover.lab.data.pictures import evenly_spread, folder_pictures
from spillover.lab.pairs.video.clip import Clip, open_clip

MOST_PICTURES = 2000
"""Of a folder or clip, evenly spread; more frames of one camera teach little more."""


def open_pictures(path: Path) -> PictureSet:
    """A labelled set, a folder with pictures at any depth, or a clip.

    Raises:
        SourceError: it is none of these, or holds no picture.
    """
    if path.suffix == ".npz" or any((path / name).is_file() for name in (LABELS_FILE, COCO_FILE)):
        return open_labelled_set(path)
    if path.is_dir():
        return UnlabelledSet(path.name, tuple(folder_pictures(path, MOST_PICTURES)))
    clip = open_clip(path)
    reader = _Reader(clip)
    numbers = evenly_spread(range(len(clip)), MOST_PICTURES)
    return UnlabelledSet(path.name, tuple(_FramePicture(reader, number) for number in numbers))


@dataclass(slots=True, eq=False)
class _Reader:
    """Reads a clip's frames by number; to go back it begins anew."""

    clip: Clip
    _frames: Generator[Image] | None = None
    _next: int = 0
    _newest: tuple[int, Image] | None = field(default=None, init=False)

    def frame(self, number: int) -> Image:
        """BGR (H, W, 3) uint8. Raises SourceError."""
        if self._newest and self._newest[0] == number:
            return self._newest[1]
        if self._frames is None or number < self._next:
            self.close()
            self._frames = self.clip.frames()
        for image in self._frames:
            self._next += 1
            if self._next > number:
                self._newest = number, image
                return image
        raise SourceError(f"{self.clip.path}: ended before frame {number + 1}")

    def close(self) -> None:
        """Let go of the file."""
        if self._frames is not None:
            self._frames.close()
        self._frames, self._next, self._newest = None, 0, None


@dataclass(frozen=True, slots=True, eq=False)
class _FramePicture:
    reader: _Reader
    number: int

    @property
    def name(self) -> str:
        return f"{self.reader.clip.name}, frame {self.number + 1}"

    def image(self) -> Image:
        return self.reader.frame(self.number)

    def digest(self) -> str:
        return f"{self.reader.clip.digest} {self.number}"
