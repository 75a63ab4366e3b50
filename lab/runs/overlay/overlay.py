"""Draws the results of a run into the frames of its source: boxes, labels, and who answered."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2

from spillover.common.errors import SourceError
from spillover.common.types import Image
from spillover.edge.camera.source import Picture, Source
from spillover.edge.sinks.record import BoxRecord, Record
from spillover.lab.data.pictures import camera_pictures

Colour = tuple[int, int, int]

COLOURS: dict[str, Colour] = {"edge": (0, 140, 255), "cloud": (60, 180, 40), "edge_degraded": (40, 40, 230)}
"""BGR, by who answered."""
_WHITE: Colour = (255, 255, 255)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
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
    count = 0
    with contextlib.closing(camera_pictures(source)) as pictures:
        for number, picture in enumerate(pictures):
            record = by_name.get(picture.name) if picture.name else wanted.get(number)
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
    """A copy of a BGR frame with boxes, labels, and a line with the ending, its reason and the best class."""
    picture = image.copy()
    colour = COLOURS.get(record.answered_by, _WHITE)
    # Letters grow with the picture, so that they can be read at whatever size it is shown.
    scale = max(0.35, min(1.2, picture.shape[0] / 1100))
    # The best boxes last, so that they lie on top.
    for box in reversed(record.boxes or []):
        _draw_box(picture, box, colour, scale)
    _text(picture, (0, 0), headline(record), colour, 1.2 * scale)
    return picture


def headline(record: Record) -> str:
    """Number, ending, reason and model, in ASCII: OpenCV's font has no other letters."""
    late = " (late)" if record.revision else ""
    parts = [f"#{record.sequence}", record.answered_by + late, record.decision.reason, str(record.model)]
    if record.classes:
        best = record.classes[0]
        parts.append(f"{best.label or best.class_id} {best.probability:.2f}")
    return "  ".join(parts).encode("ascii", "replace").decode()


def _draw_box(picture: Image, box: BoxRecord, colour: Colour, scale: float) -> None:
    left, top, right, bottom = (round(edge) for edge in box.xyxy)
    cv2.rectangle(picture, (left, top), (right, bottom), colour, max(1, round(3 * scale)), cv2.LINE_AA)
    label = f"{box.label or box.class_id} {box.confidence:.2f}".encode("ascii", "replace").decode()
    height = _size(label, scale)[1]
    _text(picture, (left, top - height if top >= height else top), label, colour, scale)


def _text(picture: Image, at: tuple[int, int], text: str, colour: Colour, scale: float) -> None:
    """White on a filled box whose left upper corner is `at`, or further left where the picture ends."""
    width, height = _size(text, scale)
    left, top = max(0, min(at[0], picture.shape[1] - width)), at[1]
    cv2.rectangle(picture, (left, top), (left + width, top + height), colour, cv2.FILLED)
    base = (left + height // 6, top + height - height // 4)
    cv2.putText(picture, text, base, _FONT, scale, _WHITE, max(1, round(2 * scale)), cv2.LINE_AA)


def _size(text: str, scale: float) -> tuple[int, int]:
    (width, height), below = cv2.getTextSize(text, _FONT, scale, max(1, round(2 * scale)))
    padded = height + below + max(2, height // 3)
    return width + padded // 3, padded
