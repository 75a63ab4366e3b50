"""The truth of a clip: MOTChallenge's labels, or the cloud model's answer to every uncompressed frame."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from spillover.common.errors import SourceError
from spillover.common.model.manifest import ModelFolder
from spillover.common.types import NO_BOXES, Detections
from spillover.lab.pairs.evaluate.classes import class_numbers

Ids = npt.NDArray[np.int64]

_MOT_CLASSES = {1: "person", 3: "car", 4: "bicycle", 5: "motorcycle"}
"""MOT16's classes (arXiv 1603.00831, table 3) by COCO's names; others are not judged."""
_COLUMNS = 6
"""frame, id, left, top, width, height; then whether the row counts, and the class."""


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """What is really in each frame."""

    boxes: tuple[Detections, ...]
    ids: tuple[Ids, ...] | None = None
    """The object of each box, (N,) a frame; None where nobody knows which box shows which object."""
    classes: frozenset[int] | None = None
    """Classes that are judged; None: all."""

    def judged(self, boxes: Detections) -> Detections:
        """The boxes of classes that the truth knows."""
        return boxes[self.is_judged(boxes)]

    def is_judged(self, boxes: Detections) -> npt.NDArray[np.bool_]:
        """Whether each box is of such a class, (N,)."""
        if self.classes is None:
            return np.ones(len(boxes), np.bool_)
        return np.isin(boxes.class_id, sorted(self.classes))


def read_mot(path: Path, frames: int, folder: ModelFolder) -> Truth:
    """Read gt.txt of a clip of so many frames, as MOTChallenge has it.

    Classes are matched by the names of the model in `folder`.

    Each line is frame (from 1), id, left, top, width, height, and where they are there: a flag, 0 for rows
    that do not count, and the class. Without a class, and for class 1, objects are persons.

    Raises:
        SourceError: the file cannot be read, a line is no such row, or the model knows none of the classes.
    """
    numbers = class_numbers([folder])
    known = {number: numbers[name] for number, name in _MOT_CLASSES.items() if name in numbers}
    rows: list[list[tuple[float, ...]]] = [[] for _ in range(frames)]
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path}: {error}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        row = _row(line, f"{path}, line {number}")
        frame, mot_class = int(row[0]), int(row[7]) if len(row) > 7 else 1
        if not 1 <= frame <= frames:
            raise SourceError(f"{path}, line {number}: frame {frame}, and the clip has 1 to {frames}")
        counts = len(row) <= 6 or row[6] != 0
        if counts and mot_class in known:
            left, top, width, height = row[2:6]
            box = (left, top, left + width, top + height)
            rows[frame - 1].append((*box, known[mot_class], row[1]))
    if not any(rows):
        raise SourceError(f"{path}: no row is of a class that {folder.model_id} knows and counts")
    arrays = [np.array(sorted(of_frame, key=lambda row: row[5]), np.float64) for of_frame in rows]
    judged = frozenset(int(row[4]) for of_frame in rows for row in of_frame)
    ids = tuple(array.reshape(-1, 6)[:, 5].astype(np.int64) for array in arrays)
    return Truth(tuple(map(_boxes, arrays)), ids, judged)


def truth_from(cloud: Sequence[Detections]) -> Truth:
    """The cloud's answers to the uncompressed frames as the truth."""
    return Truth(tuple(cloud))


def _row(line: str, where: str) -> list[float]:
    try:
        row = [float(word) for word in line.split(",")]
    except ValueError as error:
        raise SourceError(f"{where}: {error}") from error
    if len(row) < _COLUMNS or not np.isfinite(row).all():
        raise SourceError(f"{where}: needs frame, id, left, top, width and height")
    return row


def _boxes(rows: npt.NDArray[np.float64]) -> Detections:
    if not len(rows):
        return NO_BOXES
    return Detections(
        rows[:, :4].astype(np.float32), np.ones(len(rows), np.float32), rows[:, 4].astype(np.int32)
    )
