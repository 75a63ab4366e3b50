"""A clip: the pictures of a video or a folder, with the time of each on the clip's own clock."""

import configparser
import contextlib
import hashlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from spillover.common.errors import SourceError
from spillover.common.types import Image
from spillover.edge.camera.folder import FolderSource, is_image
from spillover.edge.camera.open import open_source
from spillover.edge.camera.source import Source
from spillover.edge.camera.video import LENGTH_TOLERANCE

Floats = npt.NDArray[np.float64]

LEAST_FRAMES = 2
_SEQUENCE_FILE = "seqinfo.ini"
"""MOTChallenge's description of a sequence, with its rate; beside the folder of its pictures."""


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """Pictures of one size in the order of their time; read from the disk each time they are asked for."""

    path: Path
    times_s: Floats
    """Seconds of each frame from the first, (N,), rising."""
    digest: str
    """Hex SHA-256 of the file, or of all pictures of a folder."""

    def __len__(self) -> int:
        return len(self.times_s)

    @property
    def name(self) -> str:
        """The file's or the folder's name."""
        return self.path.name

    @property
    def fps(self) -> float:
        """Mean frames a second."""
        return float((len(self) - 1) / self.times_s[-1])

    def frames(self) -> Generator[Image]:
        """Each picture, BGR (H, W, 3) uint8.

        Raises:
            SourceError: a picture cannot be decoded, has another size than those before, or is missing.
        """
        first: tuple[int, ...] = ()
        read = 0
        with contextlib.closing(open_source(str(self.path))) as source:
            for read, image in enumerate(_images(source), 1):
                first = first or image.shape
                if image.shape != first:
                    raise SourceError(
                        f"{self.path}: frame {read} is {image.shape[1]}x{image.shape[0]}, those before are "
                        f"{first[1]}x{first[0]}: no box can be moved from one to the other; cut it there"
                    )
                if read > len(self):
                    break
                yield image
        if read != len(self):
            raise SourceError(f"{self.path}: gave {read} frames or more, and {len(self)} when it was opened")


def open_clip(path: Path, fps: float | None = None) -> Clip:
    """Find out when each frame of a video file, or of a folder of pictures, was taken.

    A file's own times are taken, so that a clip whose rate changes is played as it was filmed. `fps`
    overrides them, and is needed for a folder without MOTChallenge's seqinfo.ini beside it.

    Raises:
        SourceError: it is not there, is empty, damaged or a single picture, or states no times.
    """
    if not path.exists():
        raise SourceError(f"{path}: no such file or folder")
    if path.is_file() and is_image(path):
        raise SourceError(f"{path}: a single picture is no clip")
    clip = _open_folder(path, fps) if path.is_dir() else _open_file(path, fps)
    if len(clip) < LEAST_FRAMES:
        raise SourceError(f"{path}: holds {len(clip)} frame, and a clip needs {LEAST_FRAMES}")
    return clip


def _images(source: Source) -> Iterator[Image]:
    while (picture := source.read()) is not None:
        yield picture.image


def _open_folder(path: Path, fps: float | None) -> Clip:
    folder = path / "img1" if (path / "img1").is_dir() else path
    count = len(FolderSource(folder))
    rate = fps or _sequence_rate(folder)
    if rate is None:
        raise SourceError(f"{path}: a folder states no rate: say --fps")
    whole = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if is_image(file):
            whole.update(hashlib.sha256(file.read_bytes()).digest())
    return Clip(folder, np.arange(count) / rate, whole.hexdigest())


def _sequence_rate(folder: Path) -> float | None:
    """The rate in seqinfo.ini in the folder or above it; None where there is none."""
    for path in (folder / _SEQUENCE_FILE, folder.parent / _SEQUENCE_FILE):
        parser = configparser.ConfigParser()
        try:
            if parser.read(path):
                rate = parser.getfloat("Sequence", "frameRate")
                return rate if 0 < rate <= 1000 else None
        except (configparser.Error, ValueError) as error:
            raise SourceError(f"{path}: states no frameRate: {error}") from error
    return None


def _open_file(path: Path, fps: float | None) -> Clip:
    times_s, stated, promised = _times(path)
    if not times_s:
        raise SourceError(f"{path}: holds no frame that OpenCV can decode")
    if len(times_s) < promised * (1 - LENGTH_TOLERANCE) - 1:
        raise SourceError(
            f"{path}: {len(times_s)} of {promised:.0f} frames can be read: it is damaged, or cut short"
        )
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Clip(path, _clock(path, np.array(times_s), fps, stated), digest)


def _times(path: Path) -> tuple[list[float], float, float]:
    """The times of all frames in seconds, the stated rate, and the promised number of frames."""
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    try:
        if not capture.isOpened():
            raise SourceError(f"{path}: is no video that OpenCV can open")
        times_s = []
        while capture.grab():
            times_s.append(capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3)
        return times_s, capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
    finally:
        capture.release()


def _clock(path: Path, times_s: Floats, fps: float | None, stated: float) -> Floats:
    """Seconds from the first frame: by `fps`, by the file's own times, or by the rate that it states."""
    if fps is None and np.all(np.diff(times_s) > 0):
        own: Floats = times_s - times_s[0]
        return own
    rate = fps or stated
    if not 0 < rate <= 1000:
        raise SourceError(f"{path}: its frames carry no times that rise, and it states no rate: say --fps")
    even: Floats = np.arange(len(times_s)) / rate
    return even
