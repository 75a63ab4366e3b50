"""From the edge's JSON lines to frames that can be played again."""

from pathlib import Path
from statistics import median

import msgspec

from common.errors import SourceError
from edge.sinks.record import Record, is_event
from lab.replay.simulate import ReplayFrame


def read_log(path: Path, payload_bytes: float | None = None) -> list[ReplayFrame]:
    """The first result of each frame, by capture time.

    A frame that was not sent tells no size: it gets `payload_bytes`, or the median of those that were sent.

    Raises:
        SourceError: the file cannot be read, a line is no result, or no size is known.
    """
    records = _records(path)
    sizes = [record.payload_bytes for record in records if record.payload_bytes]
    if payload_bytes is None and not sizes:
        raise SourceError(f"{path}: no frame was sent, so no size is known; give --payload-bytes")
    usual = payload_bytes if payload_bytes is not None else median(sizes)
    start = min((record.captured_unix_s for record in records), default=0.0)
    frames = [
        ReplayFrame(r.captured_unix_s - start, r.decision.expected_gain, r.payload_bytes or usual, r.source)
        for r in records
    ]
    return sorted(frames, key=lambda frame: frame.captured_s)


def _records(path: Path) -> list[Record]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or error}") from error
    records = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or is_event(line):
            continue
        try:
            record = msgspec.json.decode(line, type=Record)
        except msgspec.DecodeError as error:
            raise SourceError(f"{path}, line {number}: not a result: {error}") from error
        if record.revision == 0:
            records.append(record)
    if not records:
        raise SourceError(f"{path}: holds no results")
    return records
