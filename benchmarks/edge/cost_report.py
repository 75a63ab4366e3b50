"""The figures of `bench-edge` as a table beside their goals."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Console

from benchmarks.edge.memory import Rss
from spillover.lab.terminal import table

GOAL_RATIO = 0.95
GOAL_ADDED_MS = 1.0
GOAL_RSS_MB = 120.0


@dataclass(frozen=True, slots=True)
class EdgeFigures:
    """All figures of `bench-edge`."""

    rounds: int
    pipeline_fps: float
    bare_fps: float
    ratios: tuple[float, ...]
    """Pipeline over bare loop, pair by pair."""
    added_p50_ms: float
    added_p99_ms: float
    rss: Rss
    import_costs_mb: Mapping[str, float]


def print_figures(figures: EdgeFigures, console: Console) -> None:
    """The figures beside their goals, then what the memory is made of."""
    ratio = statistics.median(figures.ratios)
    spread = f"{min(figures.ratios):.3f} .. {max(figures.ratios):.3f}"
    rows = (
        (
            f"frames/s, pipeline / bare loop (median of pairs; {spread})",
            f"{ratio:.3f}",
            f">= {GOAL_RATIO}",
            _yes(ratio >= GOAL_RATIO),
        ),
        (
            "latency added at half the rate, p50",
            f"{figures.added_p50_ms:.2f} ms",
            f"<= {GOAL_ADDED_MS:.0f} ms",
            _yes(figures.added_p50_ms <= GOAL_ADDED_MS),
        ),
        (
            "resident memory of the daemon, hybrid, default pair",
            f"{figures.rss.resident_mb:.0f} MB",
            f"<= {GOAL_RSS_MB:.0f} MB",
            _yes(figures.rss.resident_mb <= GOAL_RSS_MB),
        ),
    )
    title = f"Edge pipeline against a bare loop, one core, {figures.rounds} pairs"
    headings = ("measure", "figure", "goal", "met")
    console.print(table(headings, rows, title=title, left=headings, wrap=True))
    console.print(
        f"for information: pipeline {figures.pipeline_fps:.1f}/s, bare loop {figures.bare_fps:.1f}/s, "
        f"latency added p99 {figures.added_p99_ms:.2f} ms"
    )
    costs = ", ".join(f"{name} {mb:.0f}" for name, mb in figures.import_costs_mb.items())
    rest = figures.rss.resident_mb - sum(figures.import_costs_mb.values())
    console.print(
        f"of the memory, in MB: {costs}; model, video decoder, frames and everything else {rest:.0f}.\n"
        f"{figures.rss.files_mb:.0f} MB of it are pages of library files, which the kernel can reclaim; "
        f"the peak was {figures.rss.peak_mb:.0f} MB"
    )


def _yes(met: bool) -> str:
    return "yes" if met else "no"
