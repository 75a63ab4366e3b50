"""Plays every clip with every pair and writes report.md: one table a pair and clip."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.reports import markdown_table
from benchmarks.video.goals import ASKED, CARRIED, WHOLE, goal_rows
from benchmarks.video.material import TUNED_ON, BenchPair, gather
from spillover.lab.files import write_json
from spillover.lab.pairs.video.clip import open_clip
from spillover.lab.pairs.video.evaluation import (
    CLOUD_ONLY,
    EDGE_ONLY,
    FULL,
    Question,
    evaluate_video,
)
from spillover.lab.pairs.video.figures import Setup
from spillover.lab.pairs.video.video_report import save_plot
from spillover.lab.terminal import Progress

_HEADINGS = ("what", "goal", "figure", "", "first half", "second half", "streaming F1", "form")


def write_report(
    folder: Path, out: Path, progress: Progress, clips: Sequence[str], *, whole: bool, threads: int
) -> Path:
    """Play what there is, of clips those whose names begin with one of `clips`; the report's path."""
    out.mkdir(parents=True, exist_ok=True)
    material = gather(folder, progress, threads)
    sections = ["# What carrying boxes is worth on video", "Written by `make bench-video`."]
    chosen = [path for path in material.clips if path.name.startswith(tuple(clips) or "")]
    sections += [
        _section(pair, path, out, progress, whole=whole, threads=threads)
        for pair in material.pairs
        for path in chosen
    ]
    sections += [f"Passed over: {text}." for text in material.missing]
    report = out / "report.md"
    report.write_text("\n\n".join(sections) + "\n", encoding="utf-8")
    return report


def _section(pair: BenchPair, path: Path, out: Path, progress: Progress, *, whole: bool, threads: int) -> str:
    clip = open_clip(path)
    question = Question(WHOLE) if whole else Question(ASKED, ways=(CARRIED,))
    evaluation = evaluate_video(pair.edge, pair.cloud, clip, question, progress, threads=threads)
    name = f"{pair.edge.parent.name}-{path.stem}"
    write_json(out / f"{name}.json", evaluation.as_dict())
    if whole:
        save_plot(evaluation, out / f"{name}.png")
    edge = evaluation.run(Setup(EDGE_ONLY))
    cloud = evaluation.run(Setup(CLOUD_ONLY, 0.2, FULL.name, 1.0))
    return (
        f"## {pair.name} on {clip.name}\n\n{len(clip)} frames, {clip.fps:.4g} a second. edge_only: F1 "
        f"{edge.whole.f1:.3f} (halves {edge.first_half.f1:.3f}, {edge.second_half.f1:.3f}), streaming F1 "
        f"{edge.whole.streaming_f1:.3f}; cloud_only, .2 s late: {cloud.whole.f1:.3f}, streaming "
        f"{cloud.whole.streaming_f1:.3f}.\n\n"
        + markdown_table(_HEADINGS, goal_rows(evaluation, counts=clip.name == TUNED_ON))
    )
