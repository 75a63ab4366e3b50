"""Runs the parts and writes report.md: the goals first, then a table a part and clip."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.inter import goals
from benchmarks.inter.cpu import CpuRow, cpu_rows
from benchmarks.inter.features import feature_rows
from benchmarks.inter.goals import Verdict
from benchmarks.inter.losses import LossRow, loss_rows
from benchmarks.inter.payloads import Row, payload_rows
from benchmarks.inter.plots import save_payloads, save_tracks
from benchmarks.inter.tracks import TrackRow, baselines, evaluate, track_rows
from benchmarks.inter.wire import WireRow, wire_rows
from benchmarks.reports import markdown_table
from benchmarks.video.material import TUNED_ON, Material, gather
from spillover.common.errors import SpilloverError
from spillover.edge.link.byte_budget import CALL_BYTES
from spillover.lab.files import write_json
from spillover.lab.pairs.video.clip import Clip, open_clip
from spillover.lab.pairs.video.evaluation import EDGE_ONLY
from spillover.lab.pairs.video.figures import Setup
from spillover.lab.terminal import Progress

_MOVING = "bikes.mp4"


def write_report(
    folder: Path, out: Path, progress: Progress, clips: Sequence[str], parts: Collection[str], threads: int
) -> Path:
    """Measure `parts` on what there is, of clips those whose names begin with one of `clips`."""
    out.mkdir(parents=True, exist_ok=True)
    material = gather(folder, progress, threads)
    chosen = [open_clip(path) for path in material.clips if path.name.startswith(tuple(clips) or "")]
    report = _Report(material, out, progress, threads)
    for clip in chosen:
        if "payloads" in parts:
            report.payloads(clip)
        if "tracks" in parts:
            report.tracks(clip)
    if chosen and "cpu" in parts:
        report.cpu(chosen[0])
    if chosen and "losses" in parts:
        report.losses(chosen[0])
    if chosen and "wire" in parts:
        report.wire(chosen[0])
    path = out / "report.md"
    path.write_text(report.text(), encoding="utf-8")
    return path


class _Report:
    """Sections as they are measured, and the verdicts."""

    def __init__(self, material: Material, out: Path, progress: Progress, threads: int) -> None:
        self._material = material
        self._pairs = material.pairs[:1]
        self._out = out
        self._progress = progress
        self._threads = threads
        self._verdicts: list[Verdict] = []
        self._sections: list[str] = []
        self._missing = [f"Passed over: {text}." for text in material.missing]

    def text(self) -> str:
        """The whole report."""
        head = ["# What is sent of a frame", "Written by `make bench-inter`."]
        if self._verdicts:
            cells = [verdict.cells() for verdict in self._verdicts]
            head += ["## Goals", markdown_table(("what", "goal", "figure", ""), cells)]
        return "\n\n".join([*head, *self._sections, *self._missing]) + "\n"

    def payloads(self, clip: Clip) -> None:
        """Bytes and F1 of what is sent."""
        for pair in self._pairs:
            rows = payload_rows(pair.cloud, clip, self._progress, self._threads)
            try:
                rows += feature_rows(pair.cloud, clip, self._out, self._progress, self._threads)
            except SpilloverError as error:
                self._missing.append(f"Passed over: features on {clip.name}: {error}.")
            self._keep(f"payloads-{clip.path.stem}", rows)
            save_payloads(rows, clip.name, self._out / f"payloads-{clip.path.stem}.png")
            if clip.name == TUNED_ON:
                self._verdicts += goals.still(rows, "video")
                self._verdicts += goals.still(rows, "features")
            if clip.name == _MOVING:
                self._verdicts += goals.moving(rows)
            self._section(f"What a sent frame takes, {clip.name}", _PAYLOADS, map(_payload_cells, rows))

    def tracks(self, clip: Clip) -> None:
        """F1 over the bytes of all frames, with tracks."""
        for pair in self._pairs:
            played = evaluate(pair.edge, pair.cloud, clip, self._progress, self._threads)
            rows, alone = track_rows(played), baselines(played)
            write_json(self._out / f"tracks-{clip.path.stem}.json", played.as_dict())
            save_tracks(rows, alone, clip.name, self._out / f"tracks-{clip.path.stem}.svg")
            if clip.name == TUNED_ON:
                self._verdicts += goals.tracked(rows)
            edge = played.run(Setup(EDGE_ONLY)).whole
            said = f"edge_only: F1 {edge.f1:.3f}, streaming F1 {edge.streaming_f1:.3f}."
            cells = [_track_cells(row, "every frame, no tracks") for row in alone]
            cells += [_track_cells(row, f"{row.every}") for row in rows]
            self._section(f"With tracks between, {clip.name}", _TRACKS, cells, said)

    def cpu(self, clip: Clip) -> None:
        """CPU time of both sides."""
        for pair in self._pairs:
            rows = cpu_rows(pair.cloud, clip, self._progress)
            self._keep("cpu", rows)
            self._verdicts += goals.cpu(rows)
            self._section(f"CPU time a frame, {clip.name}", _CPU, map(_cpu_cells, rows))

    def losses(self, clip: Clip) -> None:
        """Lost calls."""
        rows = loss_rows(clip, self._progress)
        self._keep("losses", rows)
        self._verdicts += goals.lossy(rows)
        self._section(f"Lost calls, {clip.name}", _LOSSES, map(_loss_cells, rows))

    def wire(self, clip: Clip) -> None:
        """Bytes of calls on the wire."""
        for pair in self._pairs:
            try:
                rows = wire_rows(pair.edge, pair.cloud, clip, self._out, self._progress)
            except SpilloverError as error:
                self._missing.append(f"Passed over: {error}.")
                return
            self._keep("wire", rows)
            said = f"Charged: 1.05 of the message, and {CALL_BYTES} bytes."
            self._section("What a call puts on the wire", _WIRE, map(_wire_cells, rows), said)

    def _keep(self, name: str, rows: Sequence[Row | CpuRow | LossRow | WireRow]) -> None:
        write_json(self._out / f"{name}.json", [asdict(row) for row in rows])

    def _section(
        self, title: str, headings: Sequence[str], rows: Iterable[Sequence[str]], said: str = ""
    ) -> None:
        self._sections += [f"## {title}", *([said] if said else []), markdown_table(headings, rows)]


_PAYLOADS = ("form", "one of", "first payload", "later ones", "mean", "as charged", "F1", "halves")
_TRACKS = ("form", "one of", "late", "bytes a frame", "of JPEG", "of video", "F1", "halves", "streaming F1")
_CPU = ("side", "form", "median ms", "quarters")
_LOSSES = ("one of", "late", "lost", "calls", "keys in 100", "bytes a call", "more", "without reference")
_WIRE = (
    "",
    "payload",
    "message",
    "boxes",
    "up",
    "down",
    "packets",
    "both",
    "charged",
    "true charge beside 5 %",
)


def _payload_cells(row: Row) -> Sequence[str]:
    return (
        row.form,
        f"{row.every}",
        f"{row.key_bytes}",
        f"{row.later_bytes:.0f}",
        f"{row.whole.mean_bytes:.0f}",
        f"{row.charged_bytes:.0f}",
        f"{row.whole.f1:.3f}",
        f"{row.first_half.f1:.3f}, {row.second_half.f1:.3f}",
    )


def _track_cells(row: TrackRow, every: str) -> Sequence[str]:
    run = row.run
    return (
        row.form,
        every,
        f"{row.late_s:g} s",
        f"{row.bytes_a_frame:.0f}",
        f"{row.of_jpeg:.2%}",
        f"{row.of_video:.0%}",
        f"{run.whole.f1:.3f}",
        f"{run.first_half.f1:.3f}, {run.second_half.f1:.3f}",
        f"{run.whole.streaming_f1:.3f}",
    )


def _cpu_cells(row: CpuRow) -> Sequence[str]:
    return row.side, row.form, f"{row.median_ms:.2f}", f"{row.lower_ms:.2f}, {row.upper_ms:.2f}"


def _loss_cells(row: LossRow) -> Sequence[str]:
    return (
        f"{row.every}",
        f"{row.late_s:g} s",
        f"{row.lost:.0%}",
        f"{row.calls}",
        f"{row.keys:.2f}",
        f"{row.bytes_a_call:.0f}",
        f"{row.more_bytes:+.1%}",
        f"{row.refused}",
    )


def _wire_cells(row: WireRow) -> Sequence[str]:
    return (
        "TLS" if row.tls else "clear",
        f"{row.payload_bytes:.0f}",
        f"{row.message_bytes:.0f}",
        f"{row.boxes:.1f}",
        f"{row.up_bytes:.0f}",
        f"{row.down_bytes:.0f}",
        f"{row.packets:.1f}",
        f"{row.up_bytes + row.down_bytes:.0f}",
        f"{row.charged_bytes:.0f}",
        f"{row.true_charge_bytes:.0f}",
    )
