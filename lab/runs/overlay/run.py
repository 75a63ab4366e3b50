"""The frames of a run, found again in its source, with their results drawn in."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2

from spillover.common.errors import SourceError
from spillover.edge.camera.source import Picture, Source, UnreadablePictureError
from spillover.edge.sinks.record import Record
from spillover.lab.runs.overlay.draw import draw

_QUALITY = 90


@dataclass(frozen=True, slots=True)
class Choice:
    """Which frames are drawn."""

    every: int = 1
    limit: int | None = None
    answered_by: str | None = None


def draw_run(records: Sequence[Record], source: Source, out: Path, choice: Choice) -> int:
    """Write `NUMBER-ENDING.jpg` for each chosen frame into `out`; how many those were.

    Raises:
        SourceError: the source holds none of the frames, is a camera, or `out` cannot be written.
    """
    if source.live:
        raise SourceError("a camera's frames are gone: --source must be a video, a picture or a folder")
    wanted = chosen(records, choice)
    by_name = {record.source: record for record in wanted.values() if record.source}
    count = 0
    for number, picture in _pictures(source):
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
    """The last answer of each chosen frame, by its number.

    Raises:
        SourceError: there is none.
    """
    last = {record.sequence: record for record in sorted(records, key=lambda r: (r.sequence, r.revision))}
    fitting = {
        number: record
        for number, record in last.items()
        if number % choice.every == 0 and choice.answered_by in {None, record.answered_by}
    }
    if not fitting:
        raise SourceError("no frame of the results was chosen")
    return dict(list(fitting.items())[: choice.limit])


def _pictures(source: Source) -> Iterator[tuple[int, Picture]]:
    """Numbered as the camera numbers them: damaged ones have no number."""
    number = 0
    try:
        while True:
            try:
                picture = source.read()
            except UnreadablePictureError:
                continue
            if picture is None:
                return
            yield number, picture
            number += 1
    finally:
        source.close()


def _write(path: Path, picture: Picture, record: Record) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = draw(picture.image, record)
    if not cv2.imwrite(str(path), drawn, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]):
        raise SourceError(f"{path}: cannot be written")
