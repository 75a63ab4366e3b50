"""The figures of `bench-edge` as a table beside their goals."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console

from benchmarks.edge.memory import Part, Rss
from benchmarks.edge.tracking_cost import TrackingFigures
from spillover.lab.terminal import table

GOAL_RATIO = 0.95
GOAL_ADDED_MS = 1.0
GOAL_RSS_MB = 120.0
_LARGE_MB = 1.0


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
    tracking: TrackingFigures


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
    print_memory(figures.rss, console)


def print_memory(rss: Rss, console: Console) -> None:
    """What the memory is made of: the parts above a megabyte, and the rest as one."""
    large = [part for part in rss.parts if part.files_mb + part.own_mb >= _LARGE_MB]
    small = [part for part in rss.parts if part not in large]
    rest = Part(f"{len(small)} others", *(sum(each) for each in _columns(small)))
    rows = [(part.name, f"{part.files_mb:.1f}", f"{part.own_mb:.1f}") for part in [*large, rest]]
    title = f"Resident memory of the daemon, hybrid, default pair: {rss.resident_mb:.0f} MB"
    headings = ("mapped file", "files' pages MB", "own MB")
    console.print(table(headings, rows, title=title, left=headings[:1]))
    console.print(
        f"{rss.files_mb:.0f} MB are pages of files, which the kernel can take back; "
        f"the peak, while the daemon was built, was {rss.peak_mb:.0f} MB"
    )


def _columns(parts: Sequence[Part]) -> tuple[list[float], list[float]]:
    return [part.files_mb for part in parts], [part.own_mb for part in parts]


def _yes(met: bool) -> str:
    return "yes" if met else "no"
