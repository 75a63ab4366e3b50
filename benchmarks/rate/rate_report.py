"""The tables of `bench-rate`: each clip and each run, and goal, figure, met or missed."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.rate.camera30 import FPS, LINK, SEND_SHARE, CameraRun, run_cameras, write_clip
from benchmarks.rate.played import Part, RateFigures, rate_figures
from benchmarks.reports import markdown_table, verdict
from spillover.common.home import models_home
from spillover.edge.camera.frame_rate import Range
from spillover.lab.files import sample_clip
from spillover.lab.pairs.video.clip import open_clip
from spillover.lab.runs.demo.pairs import PAIRS
from spillover.lab.terminal import Progress

WITHIN = Range(2.0, 30.0)
REFRESH_S = 5.0
STREET, STREET_FPS = "vtest.avi", 30.0
"""Filmed at 10 frames a second, and played at three times its speed."""
MOST_LOST, MOST_LOOKS = 0.02, 0.60
LESS_LATENCY, LESS_BYTES = 0.90, 0.95
_FRAMES = 600

Row = tuple[str, ...]


def write_report(folder: Path, out: Path, parts: Sequence[str], progress: Progress, console: Console) -> Path:
    """Play, run, and write report.md; its path. Raises SpilloverError."""
    out.mkdir(parents=True, exist_ok=True)
    pair = PAIRS["detection"]
    pair.prepare(console)
    edge, cloud = models_home() / pair.edge, models_home() / pair.cloud
    street = folder / "video" / STREET
    sections, goals = ["# A frame rate that follows the scene", "Written by `make bench-rate`."], list[Row]()
    if "clips" in parts:
        clips = [open_clip(street, STREET_FPS)] if street.is_file() else []
        clips.append(open_clip(sample_clip()))
        found = [rate_figures(edge, cloud, clip, WITHIN, REFRESH_S, progress) for clip in clips]
        sections.append(_clips(found))
        goals += [row for figures in found for row in _clip_goals(figures)]
        if not street.is_file():
            sections.append(f"Passed over: {STREET}, which is not in {street.parent}.")
    if "camera" in parts:
        clip = write_clip(street if street.is_file() else sample_clip(), out, _FRAMES)
        runs = run_cameras(edge, cloud, clip, WITHIN, out)
        sections += [_runs(runs), _stages(runs)]
        goals += list(_run_goals(runs))
    sections.append("## Goals\n\n" + markdown_table(("what", "goal", "figure", ""), goals))
    report = out / "report.md"
    report.write_text("\n\n".join(sections) + "\n", encoding="utf-8")
    return report


def _clips(found: Sequence[RateFigures]) -> str:
    rows = [
        (
            f"{one.clip}, {one.fps:.3g} frames/s",
            str(one.pictures),
            f"{one.boxes}, {one.found:.1%}",
            *(f"{part.looks:.1%}, {part.lost:+.2%}" for part in (one.whole, one.first_half, one.second_half)),
        )
        for one in found
    ]
    headings = (
        "clip",
        "pictures",
        "boxes of the cloud, shown at the full rate",
        "looked at, boxes lost",
        "first half",
        "second half",
    )
    text = (
        f"## Looked at and lost, camera.fps: {{min: {WITHIN.least:g}, max: {WITHIN.most:g}}}\n\n"
        "Constants were chosen on the first half of each clip.\n\n"
    )
    return text + markdown_table(headings, rows)


def _clip_goals(figures: RateFigures) -> Iterator[Row]:
    whole: Part = figures.whole
    yield (
        f"{figures.clip}: boxes of the cloud lost against the full rate",
        f"<= {MOST_LOST:.0%}",
        f"{whole.lost:+.2%}",
        verdict(met=whole.lost <= MOST_LOST),
    )
    yield (
        f"{figures.clip}: frames that the model looks at",
        f"<= {MOST_LOOKS:.0%}",
        f"{whole.looks:.1%}",
        verdict(met=whole.looks <= MOST_LOOKS),
    )


def _runs(runs: Sequence[CameraRun]) -> str:
    rows = [
        (
            one.name,
            str(one.captured),
            str(one.dropped),
            str(one.looks),
            f"{one.cpu_ms / 10:.0f} %",
            f"{one.sent}, {one.wire_bytes / 1e3:.0f} kB",
            f"{one.first_ms[0]:.0f} ms, {one.first_ms[1]:.0f} ms",
            f"{one.cloud_ms[0]:.0f} ms, {one.cloud_ms[1]:.0f} ms" if one.cloud_ms else "none",
            "balance" if one.is_balanced else "DO NOT BALANCE",
        )
        for one in runs
    ]
    headings = (
        "way",
        "captured",
        "dropped",
        "looked at",
        "of a core",
        "frames sent, bytes",
        "first result p50, p99",
        "of them the cloud's",
        "books",
    )
    text = (
        f"## A camera of 640x480 at {FPS:g} frames/s\n\n"
        f"{LINK.rtt_ms:g} ms, {LINK.up_mbit_per_s:g} Mbit/s up; "
        f"the hybrid's send_share is {SEND_SHARE:g}. Edge and cloud share this machine.\n\n"
    )
    return text + markdown_table(headings, rows)


def _stages(runs: Sequence[CameraRun]) -> str:
    stages = list(runs[0].stages_ms)
    rows = [(one.name, *(f"{p50:.1f}, {p99:.1f}" for p50, p99 in one.stages_ms.values())) for one in runs]
    headings = ("way", *(stage.removesuffix("_s") for stage in stages))
    return "Milliseconds of each stage, p50 and p99:\n\n" + markdown_table(headings, rows)


def _run_goals(runs: Sequence[CameraRun]) -> Iterator[Row]:
    reference, *_, last = runs
    if reference.cloud_ms is None:
        yield f"{last.name} against cloud_only", "", "the cloud has answered no frame in time", "missed"
        return
    latency = 1 - last.first_ms[0] / reference.cloud_ms[0]
    each = reference.payload_bytes / reference.sent
    sent = 1 - last.payload_bytes / (each * reference.captured)
    yield (
        f"{last.name}: latency to the first result, against answers of cloud_only (p50)",
        f"-{LESS_LATENCY:.0%}",
        f"{-latency:+.1%}",
        verdict(met=latency >= LESS_LATENCY),
    )
    yield (
        f"{last.name}: bytes, against every picture as cloud_only sends it ({each / 1e3:.0f} kB)",
        f"-{LESS_BYTES:.0%}",
        f"{-sent:+.1%}",
        verdict(met=sent >= LESS_BYTES),
    )
