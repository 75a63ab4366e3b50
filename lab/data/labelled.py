"""A labelled set: pictures, and what is really in them."""

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from common.errors import SourceError
from common.model.manifest import Task
from lab.data.pictures import ArrayPicture, FilePicture, Picture

LABELS_FILE = "labels.csv"
COCO_FILE = "instances.json"
IMAGES_FOLDER = "images"

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class ClassLabels:
    """The true class of each picture, int64 (N,)."""

    class_id: Labels


@dataclass(frozen=True, slots=True, eq=False)
class CocoTruth:
    """True boxes in COCO's format (cocodataset.org/#format-data); `image_ids[i]` belongs to picture i."""

    instances: Mapping[str, Any]
    image_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class LabelledSet:
    """Pictures in a fixed order with their truth."""

    name: str
    pictures: tuple[Picture, ...]
    truth: ClassLabels | CocoTruth

    @property
    def task(self) -> Task:
        """What the labels can judge."""
        return Task.CLASSIFICATION if isinstance(self.truth, ClassLabels) else Task.DETECTION


def open_labelled_set(path: Path) -> LabelledSet:
    """Read the labels at `path`; the pictures themselves stay on disk until they are asked for.

    A folder holds `labels.csv` (columns file, class_index) or COCO `instances.json`, with the pictures
    beside it or in `images/`. A file is an .npz with x uint8 RGB (N, H, W, 3) and y integers (N,).

    Raises:
        SourceError: none of these, a column or key is missing, or a named picture is absent.
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
        with np.load(path, allow_pickle=False) as arrays:
            x, y = arrays["x"], arrays["y"]
    except (OSError, ValueError, KeyError) as error:
        raise SourceError(f"{path}: needs arrays x and y: {error}") from error
    if x.ndim != 4 or x.shape[3] != 3 or x.dtype != np.uint8 or y.shape != (len(x),):
        raise SourceError(
            f"{path}: x must be uint8 (N, H, W, 3) and y (N,), found {x.dtype}{x.shape}, {y.shape}"
        )
    pictures = tuple(ArrayPicture(f"{path.stem}[{i}]", rgb) for i, rgb in enumerate(x))
    return LabelledSet(path.stem, pictures, ClassLabels(y.astype(np.int64)))


def _open_csv(folder: Path) -> LabelledSet:
    path = folder / LABELS_FILE
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        raise SourceError(f"{path}: names no picture")
    pictures, labels = [], []
    for line, row in enumerate(rows, start=2):
        try:
            labels.append(int(row["class_index"]))
            pictures.append(_picture(folder, row["file"]))
        except (KeyError, TypeError, ValueError) as error:
            raise SourceError(f"{path}, line {line}: needs file and a whole number class_index") from error
    return LabelledSet(folder.name, tuple(pictures), ClassLabels(np.array(labels, np.int64)))


def _open_coco(folder: Path) -> LabelledSet:
    path = folder / COCO_FILE
    try:
        instances = json.loads(path.read_text(encoding="utf-8"))
        images = instances["images"]
        pictures = tuple(_picture(folder, image["file_name"]) for image in images)
        image_ids = tuple(int(image["id"]) for image in images)
        missing = {"annotations", "categories"} - set(instances)
    except (ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{path}: not COCO instances: {error!r}") from error
    if missing or not pictures:
        raise SourceError(f"{path}: has no {', '.join(sorted(missing)) or 'images'}")
    return LabelledSet(folder.name, pictures, CocoTruth(instances, image_ids))


def _picture(folder: Path, name: str) -> FilePicture:
    for path in (folder / name, folder / IMAGES_FOLDER / name):
        if path.is_file():
            return FilePicture(path)
    raise SourceError(f"{folder / name}: no such picture, here or in {IMAGES_FOLDER}/")
