"""A picture of a few frames with what each mode said of them: modes below each other, frames side by side."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from spillover.common.errors import SourceError
from spillover.common.tasks.drawing import Pen, draw_text
from spillover.common.types import Image
from spillover.edge.camera.source import Source
from spillover.edge.sinks.record import Record
from spillover.lab.data.pictures import camera_pictures
from spillover.lab.runs.overlay.overlay import draw

COLUMNS = 3
WIDTH = 480
"""Pixels of one frame in the strip."""
_QUALITY = 88


def write_strip(path: Path, source: Source, runs: Mapping[str, Sequence[Record]]) -> None:
    """Draw the first results of `COLUMNS` frames, spread over the run, and write them as one JPEG.

    Raises:
        SourceError: no frame has a result in every run, the source holds none, or the file cannot be written.
    """
    first = {
        mode: {record.sequence: record for record in records if not record.revision}
        for mode, records in runs.items()
    }
    numbers = spread(first)
    rows: dict[str, list[Image]] = {mode: [] for mode in runs}
    with contextlib.closing(camera_pictures(source)) as pictures:
        for number, picture in enumerate(pictures):
            if number in numbers:
                for mode, records in first.items():
                    rows[mode].append(_titled(draw(picture.image, records[number]), mode))
            if number == numbers[-1]:
                break
    if not all(len(row) == len(numbers) for row in rows.values()):
        raise SourceError("the source holds other frames than the results")
    strip = np.concatenate([np.concatenate(row, axis=1) for row in rows.values()])
    if not cv2.imwrite(str(path), strip, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]):
        raise SourceError(f"{path}: cannot be written")


def spread(first: Mapping[str, Mapping[int, Record]]) -> list[int]:
    """Numbers of frames that every run has answered, spread evenly. Raises SourceError if there is none."""
    common = sorted(set.intersection(*(set(records) for records in first.values())))
    if not common:
        raise SourceError("no frame was answered in every mode")
    places = (np.arange(COLUMNS) + 0.5) / COLUMNS * len(common)
    return sorted({common[int(place)] for place in places})


def _titled(drawn: Image, mode: str) -> Image:
    """A frame of the strip's size, with the mode in its lower corner."""
    height = round(drawn.shape[0] * WIDTH / drawn.shape[1])
    small = cv2.resize(drawn, (WIDTH, height), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    draw_text(small, (0, height - 24), mode, Pen((60, 60, 60), 0.55))
    return small
