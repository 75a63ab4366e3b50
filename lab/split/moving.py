"""Frames that follow each other, to code features against: of a clip, or pictures that are shifted.

Either gives two stretches that have no frame in common: one to choose a coding on, one to judge it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from spillover.common.errors import SourceError
from spillover.common.types import Image
from spillover.lab.data.pictures import ArrayPicture, Picture, evenly_spread
from spillover.lab.pairs.video.clip import Clip, open_clip
from spillover.lab.split.inter import AGES, spaced_chains

SHIFTED_PICTURES = 12
"""Of each stretch of shifted pictures."""
SHIFT_PIXELS = (1, 2, 4, 8)
"""By how much a picture of 640 pixels has moved, for a reference of each age."""
NOISE = 2.0
"""Standard deviation of a sensor's noise, of 255."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Frames, and in which order they are sent, by the age of their reference; see `inter.Sequences`."""

    pictures: Callable[[], Iterator[Picture]]
    """Gives the frames in order of their numbers; reads them anew each time."""
    chains: Mapping[int, Sequence[Sequence[int]]]


@dataclass(frozen=True, slots=True)
class Moving:
    """Two stretches of one clip, or of shifted pictures: then `clip` is empty."""

    clip: str
    chosen_on: Stretch
    judged_on: Stretch


def clip_halves(path: Path) -> Moving:
    """The first half of a clip to choose on, the second to judge on.

    Raises:
        SourceError: it is no clip, or too short to send one frame after another in each half.
    """
    clip = _open(path)
    middle = len(clip) // 2
    halves = [_clip_stretch(clip, *half) for half in ((0, middle), (middle, len(clip)))]
    return Moving(clip.name, *halves)


def clip_pictures(path: Path, count: int) -> Sequence[Picture]:
    """At most `count` frames of a clip's first half, to calibrate on. Raises SourceError."""
    clip = _open(path)
    wanted = evenly_spread(range(len(clip) // 2), count)
    return list(_frames(clip, frozenset(wanted)))


def _open(path: Path) -> Clip:
    """A clip of which only the order of frames counts."""
    return open_clip(path, fps=None if path.is_file() else 1.0)


def _clip_stretch(clip: Clip, first: int, end: int) -> Stretch:
    chains = spaced_chains(first, end)
    if not chains:
        raise SourceError(f"{clip.path}: {len(clip)} frames are too few; each half needs two at least")
    wanted = sorted({number for of_age in chains.values() for chain in of_age for number in chain})
    place = {number: index for index, number in enumerate(wanted)}
    placed = {
        age: [[place[number] for number in chain] for chain in of_age] for age, of_age in chains.items()
    }
    return Stretch(partial(_frames, clip, frozenset(wanted)), placed)


def _frames(clip: Clip, wanted: frozenset[int]) -> Iterator[Picture]:
    last = max(wanted)
    for number, image in enumerate(clip.frames()):
        if number in wanted:
            yield ArrayPicture(f"{clip.name}@{number}", image[:, :, ::-1])
        if number == last:
            return


def shifted_halves(pictures: Sequence[Picture]) -> Moving:
    """Every other picture to choose on, the others to judge on; each is moved by more the older it is."""
    spread = evenly_spread(pictures, 2 * SHIFTED_PICTURES)
    return Moving("", _shifted_stretch(spread[::2]), _shifted_stretch(spread[1::2] or spread))


def _shifted_stretch(pictures: Sequence[Picture]) -> Stretch:
    each = len(AGES) + 1
    firsts = range(0, len(pictures) * each, each)
    chains = {age: [[first, first + 1 + i] for first in firsts] for i, age in enumerate(AGES)}
    return Stretch(partial(_shifted, pictures), chains)


def _shifted(pictures: Sequence[Picture]) -> Iterator[Picture]:
    random = np.random.default_rng(0)
    for picture in pictures:
        image = picture.image()
        angle = random.uniform(0, 2 * np.pi)
        for pixels in (0, *SHIFT_PIXELS):
            reach = pixels * max(image.shape[:2]) / 640
            moved = _noisy(_moved(image, reach * np.cos(angle), reach * np.sin(angle)), random)
            yield ArrayPicture(f"{picture.name} moved by {pixels}", moved[:, :, ::-1])


def _moved(image: Image, right: float, down: float) -> Image:
    height, width = image.shape[:2]
    motion = np.array([[1, 0, right], [0, 1, down]], np.float64)
    moved = cv2.warpAffine(image, motion, (width, height), borderMode=cv2.BORDER_REFLECT)
    return moved.astype(np.uint8, copy=False)


def _noisy(image: Image, random: np.random.Generator) -> Image:
    noisy = image + random.normal(0, NOISE, image.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
