"""The demo's table: one row of figures from the records of each mode."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console

from spillover.common.tasks import agreement
from spillover.common.types import Prediction
from spillover.edge.sinks.record import Record
from spillover.lab.pairs.video.results import streaming_agreement
from spillover.lab.records import prediction_of
from spillover.lab.terminal import table


@dataclass(frozen=True, slots=True)
class ModeFigures:
    """Figures of one mode. Shares are of the frames that got a first answer."""

    frames: int
    dropped: int
    """Captured frames without an answer: the model was slower than the camera."""
    offload_share: float
    cloud_share: float
    """First answers that were the cloud's, in time."""
    degraded_share: float
    late_revisions: int
    bytes_per_frame: float
    first_answer_p50_ms: float
    first_answer_p99_ms: float
    on_time_share: float
    agreement: float | None
    """Mean over first answers, against the cloud model's own (a detector's F1); None where a source cannot be
    read twice."""
    streaming: float | None
    """The same of what is newest at each frame's capture (streaming accuracy, arXiv 2005.10420)."""
    tracks: int | None
    """Objects that were followed; None where nothing was tracked."""


def figures_of(
    records: Sequence[Record], reference: Mapping[int, Prediction], deadline_s: float
) -> ModeFigures:
    """Sum up one run. `reference` is the cloud model's answer by frame number, or empty."""
    first = [record for record in records if record.revision == 0]
    numbers = {box.track_id for record in first for box in record.boxes or ()} - {None}
    total_s = np.array([record.timings.total_s for record in first])
    agreements = [
        agreement(prediction_of(record), reference[record.sequence])
        for record in first
        if record.sequence in reference
    ]
    return ModeFigures(
        frames=len(first),
        dropped=max(record.sequence for record in first) + 1 - len(first),
        offload_share=_share(first, lambda record: record.payload_bytes > 0),
        cloud_share=_share(first, lambda record: record.answered_by == "cloud"),
        degraded_share=_share(first, lambda record: record.answered_by == "edge_degraded"),
        late_revisions=len(records) - len(first),
        bytes_per_frame=sum(record.payload_bytes for record in first) / len(first),
        first_answer_p50_ms=float(np.percentile(total_s, 50) * 1e3),
        first_answer_p99_ms=float(np.percentile(total_s, 99) * 1e3),
        on_time_share=float(np.mean(total_s <= deadline_s)),
        agreement=float(np.mean(agreements)) if agreements else None,
        streaming=streaming_agreement(records, reference),
        tracks=len(numbers) if numbers else None,
    )


def print_table(figures: Mapping[str, ModeFigures], console: Console) -> None:
    """One row a mode."""
    tracked = any(row.tracks is not None for row in figures.values())
    whole = figures.get("cloud_only")
    whole_bytes = whole.bytes_per_frame if whole is not None else 0.0
    headings = [
        "mode",
        "frames",
        "sent",
        "late",
        "B/frame",
        "bytes",
        "p50 ms",
        "p99 ms",
        "on time",
        "F1" if tracked else "agrees",
        "streaming",
        *(["tracks"] if tracked else []),
    ]
    rows = ((mode, *_cells(row, whole_bytes, tracked=tracked)) for mode, row in figures.items())
    console.print(table(headings, rows, title="The same frames in three modes"))
    measure = "F1: of the boxes, with the cloud model's" if tracked else "agrees: with the cloud model"
    console.print(
        "sent: left the device. late: the cloud's answer was wanted and did not come in time.\n"
        f"bytes: of cloud_only's. p50, p99: from capture to first answer. {measure};\n"
        "streaming: the same of what is newest when the next frame is taken."
    )


def _cells(row: ModeFigures, whole_bytes: float, *, tracked: bool) -> list[str]:
    shares = (row.offload_share, row.degraded_share)
    return [
        str(row.frames),
        *(f"{share:.0%}" for share in shares),
        f"{row.bytes_per_frame:,.0f}",
        f"{row.bytes_per_frame / whole_bytes:.1%}" if whole_bytes else "-",
        f"{row.first_answer_p50_ms:.1f}",
        f"{row.first_answer_p99_ms:.1f}",
        f"{row.on_time_share:.0%}",
        *(_share_text(value, tracked=tracked) for value in (row.agreement, row.streaming)),
        *([str(row.tracks or "-")] if tracked else []),
    ]


def _share_text(value: float | None, *, tracked: bool) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if tracked else f"{value:.0%}"


def _share(records: Sequence[Record], holds: Callable[[Record], bool]) -> float:
    return sum(map(holds, records)) / len(records)
