"""Draws the results of a run into the frames of its source: boxes, labels, and who answered."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2

from spillover.common.errors import SourceError
from spillover.common.tasks import spec_for
from spillover.common.tasks.drawing import (
    GREEN,
    ORANGE,
    WHITE,
    Colour,
    Pen,
    caption,
    draw_text,
    draw_tracks,
)
from spillover.common.types import Detections, Image
from spillover.edge.camera.source import Picture, Source
from spillover.edge.sinks.record import Record
from spillover.lab.data.pictures import camera_pictures
from spillover.lab.records import prediction_of, tracks_of

COLOURS: dict[str, Colour] = {"edge": ORANGE, "cloud": GREEN, "edge_degraded": (40, 40, 230)}
"""BGR, by who answered."""
_QUALITY = 90


@dataclass(frozen=True, slots=True)
class Choice:
    """The frames to draw: every n-th, at most `limit`, and only those with this ending; None is any."""

    every: int = 1
    limit: int | None = None
    answered_by: str | None = None


def draw_run(records: Sequence[Record], source: Source, out: Path, choice: Choice) -> int:
    """Write `NUMBER-ENDING.jpg` for each chosen frame into `out`; returns their count.

    Raises:
        SourceError: the source holds none of the frames, is a camera, or `out` cannot be written.
    """
    if source.live:
        raise SourceError("a camera's frames are gone: --source must be a video, a picture or a folder")
    wanted = chosen(records, choice)
    by_name = {record.source: record for record in wanted.values() if record.source}
    by_number = {number: record for number, record in wanted.items() if not record.source}
    count = 0
    with contextlib.closing(camera_pictures(source)) as pictures:
        for number, picture in enumerate(pictures):
            record = by_name.get(picture.name or f"#{number}") or by_number.get(number)
            if record is not None:
                _write(out / f"{record.sequence:06}-{record.answered_by}.jpg", picture, record)
                count += 1
            if count == len(wanted):
                break
    if not count:
        raise SourceError("the source holds none of the frames of the results")
    return count


def chosen(records: Sequence[Record], choice: Choice) -> dict[int, Record]:
    """The last answer of each chosen frame, by its number. Raises SourceError where there is none."""
    last = {record.sequence: record for record in sorted(records, key=lambda r: (r.sequence, r.revision))}
    fitting = {
        number: record
        for number, record in last.items()
        if number % choice.every == 0 and choice.answered_by in {None, record.answered_by}
    }
    if not fitting:
        raise SourceError("no frame of the results was chosen")
    return dict(list(fitting.items())[: choice.limit])


def _write(path: Path, picture: Picture, record: Record) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = draw(picture.image, record)
    if not cv2.imwrite(str(path), drawn, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]):
        raise SourceError(f"{path}: cannot be written")


def draw(image: Image, record: Record) -> Image:
    """A copy of a BGR frame with boxes, labels, and a line with the ending, its reason and the best class.

    Tracked boxes are in the colour of the side that confirmed them last, dashed where they were carried.
    """
    picture = image.copy()
    prediction = prediction_of(record)
    task = spec_for(prediction)
    names = {row.class_id: row.label for row in getattr(record, task.record_key)}

    def name(class_id: int) -> str:
        return names.get(class_id) or str(class_id)

    # Letters grow with the picture, so that they can be read at whatever size it is shown.
    pen = Pen(COLOURS.get(record.answered_by, WHITE), scale=max(0.35, min(1.2, picture.shape[0] / 1100)))
    marks = tracks_of(record)
    if marks is not None and isinstance(prediction, Detections):
        draw_tracks(picture, prediction, marks, name, pen.scale)
    else:
        task.draw(picture, prediction, name, pen)
    words = "  ".join(filter(None, [headline(record), caption(prediction, name)]))
    draw_text(picture, (0, 0), words, replace(pen, scale=1.2 * pen.scale))
    return picture


def headline(record: Record) -> str:
    """Number, ending, reason and model."""
    late = " (late)" if record.revision else ""
    again = f" (as of #{record.reused_from.rpartition('-')[2]})" if record.reused_from else ""
    return f"#{record.sequence}  {record.answered_by}{late}{again}  {record.decision.reason}  {record.model}"
