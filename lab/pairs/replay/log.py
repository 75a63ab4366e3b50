"""Turns the edge's JSON lines into frames to play again."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median

from spillover.common.errors import SourceError
from spillover.edge.sinks.record import Record
from spillover.lab.pairs.replay.rescore import Rescore
from spillover.lab.pairs.replay.simulate import ReplayFrame


def first_results(path: Path, records: Sequence[Record]) -> list[Record]:
    """The first result of each frame in the log at `path`; late answers are passed over.

    Raises:
        SourceError: there is none.
    """
    first = [record for record in records if record.revision == 0]
    if not first:
        raise SourceError(f"{path}: holds no results")
    return first


def frames_of(
    path: Path, records: Sequence[Record], payload_bytes: float | None = None, rescore: Rescore | None = None
) -> list[ReplayFrame]:
    """Frames by capture time; their gain is the logged one, or that of `rescore`.

    A frame that was not sent has no logged size and gets `payload_bytes`, or the median of those that were
    sent.

    Raises:
        SourceError: no size is known, or no frame has a gain.
        ConfigError: as `rescore`.
    """
    sizes = [record.payload_bytes for record in records if record.payload_bytes]
    if payload_bytes is None and not sizes:
        raise SourceError(f"{path}: no frame was sent, so no size is known; give --payload-bytes")
    usual = payload_bytes if payload_bytes is not None else median(sizes)
    start = min(record.captured_unix_s for record in records)
    frames = [
        ReplayFrame(
            record.captured_unix_s - start,
            rescore(record) if rescore else record.decision.expected_gain,
            record.payload_bytes or usual,
            record.source,
        )
        for record in records
    ]
    if not any(frame.gain for frame in frames):
        raise SourceError(
            f"{path}: no frame has an expected gain (modes edge_only and cloud_only log none); give --policy"
        )
    return sorted(frames, key=lambda frame: frame.captured_s)
