"""Sets of pictures, with their true classes or boxes and without."""

import csv
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from spillover.common.errors import SourceError
from spillover.common.tasks.classification import CLASSIFICATION
from spillover.common.tasks.detection import DETECTION
from spillover.lab.data.coco import read_instances
from spillover.lab.data.pictures import ArrayPicture, FilePicture, Picture

LABELS_FILE = "labels.csv"
COCO_FILE = "instances.json"
IMAGES_FOLDER = "images"
STRETCHES = 50
"""A camera's pictures count as so many scenes, none of which is both fitted to and judged on."""
_MAX_CLASS = 2**31 - 1

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class ClassLabels:
    """The true class of each picture, int64 (N,), and where known its place in the labels, for errors."""

    task: ClassVar = CLASSIFICATION.name
    class_id: Labels
    where: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class CocoTruth:
    """True boxes in COCO's format (cocodataset.org/#format-data); `image_ids[i]` belongs to picture i.

    A category's id counts as the model's class; `lab.pairs.evaluate.classes` renumbers the categories.
    """

    task: ClassVar = DETECTION.name
    instances: Mapping[str, Any]
    image_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class LabelledSet:
    """Pictures in a fixed order with their truth."""

    name: str
    pictures: tuple[Picture, ...]
    truth: ClassLabels | CocoTruth

    @property
    def task(self) -> str:
        """The task that the labels judge."""
        return self.truth.task

    @property
    def stretch(self) -> int:
        """How many pictures in order look alike: each is a scene of its own."""
        return 1

    def part(self, numbers: Sequence[int]) -> "LabelledSet":
        """The numbered pictures alone, in that order."""
        truth: ClassLabels | CocoTruth
        if isinstance(self.truth, ClassLabels):
            truth = ClassLabels(self.truth.class_id[list(numbers)])
        else:
            truth = replace(self.truth, image_ids=tuple(self.truth.image_ids[n] for n in numbers))
        return replace(self, pictures=tuple(self.pictures[n] for n in numbers), truth=truth)


@dataclass(frozen=True, slots=True, eq=False)
class UnlabelledSet:
    """Pictures of a camera in the order in which they were taken."""

    name: str
    pictures: tuple[Picture, ...]

    @property
    def stretch(self) -> int:
        """So many pictures in order look alike."""
        return -(-len(self.pictures) // STRETCHES)


PictureSet = LabelledSet | UnlabelledSet


def open_labelled_set(path: Path) -> LabelledSet:
    """Read the labels at `path`; pictures are read from disk on demand.

    A folder holds `labels.csv` (columns file, class_index) or COCO `instances.json`, with the pictures
    beside it or in `images/`. A file is an .npz with x uint8 RGB (N, H, W, 3) and y integers (N,).

    Raises:
        SourceError: none of these, a column or key is missing, a label is no class, a named picture is
            absent, or there is nothing to find in any picture.
    """
    if path.is_file() and path.suffix == ".npz":
        return _open_npz(path)
    if (path / LABELS_FILE).is_file():
        return _open_csv(path)
    if (path / COCO_FILE).is_file():
        return _open_coco(path)
    raise SourceError(f"{path}: neither a folder with {LABELS_FILE} or {COCO_FILE}, nor an .npz file")


def _open_npz(path: Path) -> LabelledSet:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            x, y = arrays["x"], arrays["y"]
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise SourceError(f"{path}: needs arrays x and y: {error}") from error
    if (
        x.ndim != 4
        or x.shape[3] != 3
        or x.dtype != np.uint8
        or y.shape != (len(x),)
        or y.dtype.kind not in "iu"
    ):
        raise SourceError(
            f"{path}: x must be uint8 (N, H, W, 3) and y integers (N,), "
            f"found {x.dtype}{x.shape}, {y.dtype}{y.shape}"
        )
    pictures = tuple(ArrayPicture(f"{path.stem}[{i}]", rgb) for i, rgb in enumerate(x))
    return _classified(path.stem, pictures, y.tolist(), [f"{path}, y[{i}]" for i in range(len(x))])


def _open_csv(folder: Path) -> LabelledSet:
    path = folder / LABELS_FILE
    pictures, labels, where = [], [], []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            for row in rows:
                where.append(f"{path}, line {rows.line_num}")
                labels.append(_whole_number(row.get("class_index"), where[-1]))
                pictures.append(_picture(folder, row.get("file"), where[-1]))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"{path}: not a table in UTF-8: {error}") from error
    return _classified(folder.name, pictures, labels, where)


def _whole_number(text: str | None, where: str) -> int:
    try:
        return int(text or "")
    except ValueError:
        raise SourceError(f"{where}: needs file and a whole number class_index") from None


def _classified(
    name: str, pictures: Sequence[Picture], labels: Sequence[int], where: Sequence[str]
) -> LabelledSet:
    if not pictures:
        raise SourceError(f"{name}: names no picture")
    for label, place in zip(labels, where, strict=True):
        if not 0 <= label <= _MAX_CLASS:
            raise SourceError(f"{place}: {label} is no class; classes are numbered from 0")
    return LabelledSet(name, tuple(pictures), ClassLabels(np.array(labels, np.int64), tuple(where)))


def _open_coco(folder: Path) -> LabelledSet:
    path = folder / COCO_FILE
    instances = read_instances(path)
    pictures = tuple(_picture(folder, image["file_name"], str(path)) for image in instances["images"])
    return LabelledSet(
        folder.name, pictures, CocoTruth(instances, tuple(i["id"] for i in instances["images"]))
    )


def _picture(folder: Path, name: str | None, where: str) -> FilePicture:
    if not name:
        raise SourceError(f"{where}: needs the name of a file")
    for path in (folder / name, folder / IMAGES_FOLDER / name):
        if path.is_file():
            return FilePicture(path)
    raise SourceError(f"{where}: no picture {name} in {folder} or its {IMAGES_FOLDER}/")
