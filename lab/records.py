"""Reads the results of an edge daemon from its JSON lines."""

from pathlib import Path

import msgspec

from spillover.common.errors import InvalidInputError, SourceError
from spillover.common.tasks import TASKS
from spillover.common.types import Prediction, SeenBy, TrackMark
from spillover.edge.sinks.record import Record, is_event


def read_records(path: Path) -> list[Record]:
    """All results in a JSON lines file, in the order they were written.

    Events are left out, and a last line without an end, in which the writer was stopped.

    Raises:
        SourceError: the file cannot be read, or a line is not a result; the text names the line.
    """
    decoder = msgspec.json.Decoder(Record)
    records = []
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if is_event(line) or not line.strip():
                    continue
                try:
                    records.append(decoder.decode(line))
                except msgspec.DecodeError as error:
                    if not line.endswith(b"\n"):
                        break
                    raise SourceError(f"{path}, line {number}: not a result: {error}") from error
    except OSError as error:
        raise SourceError(f"{path}: {error}") from error
    return records


def prediction_of(record: Record) -> Prediction:
    """The prediction in a record; of a classification, its best classes.

    Raises:
        SourceError: it holds none, or a damaged one.
    """
    for task in TASKS.values():
        if (rows := getattr(record, task.record_key, None)) is not None:
            try:
                prediction: Prediction = task.from_rows(msgspec.to_builtins(rows))
            except InvalidInputError as error:
                raise SourceError(f"frame {record.frame_id}: {error}") from error
            return prediction
    raise SourceError(f"frame {record.frame_id}: the record holds no prediction")


def local_s(record: Record) -> float:
    """Seconds from the beginning of a frame's capture to the edge's own answer."""
    times = record.timings
    return times.capture_s + times.queue_s + times.preprocess_s + times.infer_s + times.decode_s


def tracks_of(record: Record) -> tuple[TrackMark, ...] | None:
    """One mark a box, in their order; None where nothing was tracked.

    Raises:
        SourceError: a mark is damaged.
    """
    marks = []
    for box in record.boxes or ():
        if box.track_id is None or box.confirmed_by is None or box.age_s is None:
            return None
        try:
            marks.append(TrackMark(box.track_id, SeenBy(box.confirmed_by), box.age_s))
        except ValueError as error:
            raise SourceError(f"frame {record.frame_id}: {error}") from error
    return tuple(marks) if record.boxes is not None else None
