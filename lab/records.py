"""Reads the results of an edge daemon from its JSON lines."""

from pathlib import Path

import msgspec
import numpy as np

from spillover.common.errors import SourceError
from spillover.common.types import Classification, Detections, Prediction
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
    """The prediction in a record; of a classification, its best classes."""
    if record.classes is not None:
        return Classification(
            np.array([c.class_id for c in record.classes], np.int32),
            np.array([c.probability for c in record.classes], np.float32),
        )
    boxes = record.boxes or []
    return Detections(
        np.array([b.xyxy for b in boxes], np.float32).reshape(-1, 4),
        np.array([b.confidence for b in boxes], np.float32),
        np.array([b.class_id for b in boxes], np.int32),
    )
