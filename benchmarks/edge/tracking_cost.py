"""What tracking costs: a frame on one thread, frames a second of the daemon, and frames that are dropped."""

import contextlib
import json
import os
import statistics
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.reports import verdict
from spillover.common.errors import SpilloverError
from spillover.lab.daemons import run_edge
from spillover.lab.files import merged
from spillover.lab.runs.check.frame_accounting import FrameAccounting
from spillover.lab.terminal import table

GOAL_MS = 3.0
OBJECTS, CROWD = 10, 50
PACES = (10, 30)
"""Frames a second of usual cameras."""
_FRAMES = 300
_SKIP = 20
_LIMIT_S = 300.0


@dataclass(frozen=True, slots=True)
class DaemonFigures:
    """The daemon in mode edge_only with a detector, with and without tracking."""

    fps: float
    ratios: tuple[float, ...]
    """Frames a second with tracking over those without, pair by pair, without a pace."""
    dropped: Mapping[int, int]
    """Frames dropped with tracking, by frames a second of the camera."""


@dataclass(frozen=True, slots=True)
class TrackingFigures:
    """Processor time a frame of 768x576; of the daemon, if there was a detector."""

    mean_ms: float
    p99_ms: float
    crowd_ms: float
    daemon: DaemonFigures | None


@dataclass(frozen=True, slots=True)
class TrackingBench:
    """The runs, each a process of its own, bound to one core."""

    python: str
    core: int
    rounds: int
    source: str
    out: Path
    detector: str | None
    """Folder of a detector's model."""

    def measure(self) -> TrackingFigures:
        """All figures. Raises SpilloverError."""
        with bound_to(self.core):
            usual, crowd = self._cost(OBJECTS), self._cost(CROWD)
            daemon = self._daemon(self.detector) if self.detector else None
        return TrackingFigures(usual["mean_ms"], usual["p99_ms"], crowd["mean_ms"], daemon)

    def _cost(self, objects: int) -> Mapping[str, float]:
        command = [self.python, "-m", "benchmarks.edge.tracked", str(objects), str(_FRAMES)]
        done = subprocess.run(command, capture_output=True, check=False, timeout=_LIMIT_S)
        if done.returncode:
            raise SpilloverError(f"the tracker failed: {done.stderr.decode(errors='replace')[-2000:]}")
        figures: Mapping[str, float] = json.loads(done.stdout)
        return figures

    def _daemon(self, detector: str) -> DaemonFigures:
        pairs = [(self._fps(detector, on=True), self._fps(detector, on=False)) for _ in range(self.rounds)]
        return DaemonFigures(
            statistics.median(tracked for tracked, _ in pairs),
            tuple(tracked / plain for tracked, plain in pairs),
            {fps: self._dropped(detector, fps) for fps in PACES},
        )

    def _fps(self, detector: str, *, on: bool) -> float:
        config = self._config(detector, {"pace": "fast"})
        name = "edge-tracked" if on else "edge-untracked"
        records = run_edge(
            config if on else merged(config, {"tracking": None}),
            self.out,
            name,
            limit_s=_LIMIT_S,
            python=self.python,
        )
        answered = [record.captured_unix_s + record.timings.total_s for record in records[_SKIP:]]
        return (len(answered) - 1) / (answered[-1] - answered[0])

    def _dropped(self, detector: str, fps: int) -> int:
        name = f"edge-tracked-{fps}"
        run_edge(self._config(detector, {"fps": fps}), self.out, name, limit_s=_LIMIT_S, python=self.python)
        books = FrameAccounting()
        with (self.out / f"{name}.jsonl").open("rb") as lines:
            books.add(lines)
        return books.report().endings.get("dropped", 0)

    def _config(self, detector: str, camera: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "mode": "edge_only",
            "camera": {"source": self.source, "max_frames": _FRAMES, "loop": True} | dict(camera),
            "model": {"folder": detector, "session": {"threads": 1}},
        }


def print_tracking(figures: TrackingFigures, console: Console) -> None:
    """The figures beside their goals."""
    rows = [
        (
            f"processor time of tracking a frame of 768x576, {OBJECTS} objects (p99 {figures.p99_ms:.1f} ms)",
            f"{figures.mean_ms:.2f} ms",
            f"<= {GOAL_MS:.0f} ms",
            verdict(met=figures.mean_ms <= GOAL_MS),
        ),
        (f"the same, {CROWD} objects", f"{figures.crowd_ms:.2f} ms", "", ""),
    ]
    if (daemon := figures.daemon) is not None:
        spread = f"{min(daemon.ratios):.3f} .. {max(daemon.ratios):.3f}"
        rows.append(
            (
                f"frames/s without a pace, tracked / not tracked (median of pairs; {spread})",
                f"{statistics.median(daemon.ratios):.3f} ({daemon.fps:.0f}/s)",
                "",
                "",
            )
        )
        rows += [
            (f"frames dropped of {_FRAMES} at {fps} frames/s", str(dropped), "0", verdict(met=dropped == 0))
            for fps, dropped in daemon.dropped.items()
        ]
    headings = ("measure", "figure", "goal", "")
    console.print(table(headings, rows, title="Tracking, one core", left=headings, wrap=True))
    if figures.daemon is None:
        console.print("frames/s and dropped frames need a detector: --detector FOLDER")


@contextlib.contextmanager
def bound_to(core: int) -> Iterator[None]:
    """Bind this process to one core, and with it every process it starts while the block lasts.

    Raises:
        SpilloverError: this process may not use the core.
    """
    before = os.sched_getaffinity(0)
    if core not in before:
        raise SpilloverError(f"core {core} is not among those this process may use: {sorted(before)}")
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
