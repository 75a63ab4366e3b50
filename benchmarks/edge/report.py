"""The table of `bench-edge`."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from benchmarks.edge.memory import Rss

GOAL_RATIO = 0.95
GOAL_ADDED_MS = 1.0
GOAL_RSS_MB = 120.0


@dataclass(frozen=True, slots=True)
class EdgeFigures:
    """Everything `bench-edge` measured."""

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
    table = Table(
        title=f"Edge pipeline against a bare loop, one core, {figures.rounds} pairs", title_justify="left"
    )
    for heading in ("measure", "figure", "goal", "met"):
        table.add_column(heading)
    rows = (
        (
            f"frames/s, pipeline / bare loop (median of pairs; {spread})",
            f"{ratio:.3f}",
            ">= 0.95",
            ratio >= GOAL_RATIO,
        ),
        (
            "latency added at half the rate, p50",
            f"{figures.added_p50_ms:.2f} ms",
            "<= 1 ms",
            figures.added_p50_ms <= GOAL_ADDED_MS,
        ),
        (
            "resident memory of the daemon, hybrid, default pair",
            f"{figures.rss.resident_mb:.0f} MB",
            "<= 120 MB",
            figures.rss.resident_mb <= GOAL_RSS_MB,
        ),
    )
    for measure, figure, goal, met in rows:
        table.add_row(measure, figure, goal, "yes" if met else "no")
    console.print(table)
    console.print(
        f"for information: pipeline {figures.pipeline_fps:.1f}/s, bare loop {figures.bare_fps:.1f}/s, "
        f"latency added p99 {figures.added_p99_ms:.2f} ms"
    )
    costs = ", ".join(f"{name} {mb:.0f}" for name, mb in figures.import_costs_mb.items())
    rest = figures.rss.resident_mb - sum(figures.import_costs_mb.values())
    console.print(
        f"of the memory, in MB: {costs}; model, video decoder, frames and everything else {rest:.0f}.\n"
        f"{figures.rss.files_mb:.0f} MB of it are pages of library files, which the kernel can take back; "
        f"the peak was {figures.rss.peak_mb:.0f} MB"
    )
