"""Runs daemons with one camera and with four in turn, and prints the figures beside their goals."""

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2

from benchmarks.edge.memory import Rss, last_rss
from benchmarks.reports import verdict
from spillover.common.home import models_home
from spillover.edge.sinks.record import Record
from spillover.lab.daemons import edge_running
from spillover.lab.files import sample_clip, write_json
from spillover.lab.models.prepare.pair import EDGE_MODEL, prepare_pair
from spillover.lab.processes import finish
from spillover.lab.terminal import Bar, open_console, table

CAMERAS = 4
GOAL_MEMORY, GOAL_RATE, GOAL_FAIR = 1.3, 0.95, 0.9
_SIZE = (640, 480)
_CLIP_FRAMES = 100
_EASY_FPS, _HARD_FPS = 2.0, 30.0
"""Frames a second of each of four cameras: what the model can do, and what no Pi can."""
_LIMIT_S = 300.0


@dataclass(frozen=True, slots=True)
class CamerasSettings:
    """The options of the command line."""

    rounds: int
    seconds: float
    python: str
    out: Path


@dataclass(frozen=True, slots=True)
class CamerasFigures:
    """All figures of `bench-cameras`; a list has one for each round."""

    memory_one: Rss
    memory_four: Rss
    rate_one: Sequence[float]
    rate_four: Sequence[float]
    by_camera: Sequence[dict[str, int]]


def run_bench(settings: CamerasSettings) -> None:
    """Measure, print and write `bench-cameras.json`. Raises SpilloverError."""
    console = open_console()
    prepare_pair(console=console)
    settings.out.mkdir(parents=True, exist_ok=True)
    runs = _Runs(settings)
    one, four, by_camera = [], [], []
    for _ in Bar().track(range(settings.rounds), "one camera, four cameras, in turn"):
        one.append(_rate(runs.records("one", 1, _HARD_FPS * CAMERAS)))
        records = runs.records("four", CAMERAS, _HARD_FPS)
        four.append(_rate(records))
        by_camera.append(dict(Counter(record.camera_id for record in records)))
    figures = CamerasFigures(
        memory_one=runs.memory("memory-one", 1, _EASY_FPS),
        memory_four=runs.memory("memory-four", CAMERAS, _EASY_FPS),
        rate_one=one,
        rate_four=four,
        by_camera=by_camera,
    )
    headings = ("measure", "figure", "goal", "met")
    title = f"{CAMERAS} cameras of {_SIZE[0]}x{_SIZE[1]} in one daemon, edge_only, default edge model"
    console.print(table(headings, _rows(figures), title=title, left=headings, wrap=True))
    write_json(settings.out / "bench-cameras.json", asdict(figures))
    console.print(f"Figures, configurations and logs: {settings.out}")


class _Runs:
    """Daemons, each a process of its own."""

    def __init__(self, settings: CamerasSettings) -> None:
        self._settings = settings
        self._clip = settings.out / "clip.mp4"
        _write_clip(self._clip)

    def records(self, name: str, cameras: int, fps: float) -> list[Record]:
        """The results of a run."""
        config = self._config(cameras, fps)
        with edge_running(config, self._settings.out, name, python=self._settings.python) as edge:
            finish(edge.process, edge.log, limit_s=_LIMIT_S)
        return edge.records()

    def memory(self, name: str, cameras: int, fps: float) -> Rss:
        """Its memory at the end of a run."""
        config = self._config(cameras, fps)
        with edge_running(config, self._settings.out, name, python=self._settings.python) as edge:
            return last_rss(edge.process, _LIMIT_S)

    def _config(self, cameras: int, fps: float) -> dict[str, Any]:
        frames = round(fps * self._settings.seconds)
        camera = {"source": str(self._clip), "fps": fps, "loop": True, "max_frames": frames}
        return {
            "mode": "edge_only",
            "cameras": [camera | {"camera_id": f"camera-{number}"} for number in range(cameras)],
            "model": {"folder": str(models_home() / EDGE_MODEL), "session": {"threads": 1}},
        }


def _rate(records: Sequence[Record]) -> float:
    """First results a second."""
    answered = sorted(record.captured_unix_s + record.timings.total_s for record in records)
    return (len(answered) - 1) / (answered[-1] - answered[0])


def _rows(figures: CamerasFigures) -> list[tuple[str, str, str, str]]:
    one, four = figures.memory_one.resident_mb, figures.memory_four.resident_mb
    pairs = [four / one for one, four in zip(figures.rate_one, figures.rate_four, strict=True)]
    fair = [min(counts.values()) / max(counts.values()) for counts in figures.by_camera]
    rates = f"{statistics.median(figures.rate_four):.1f}/s and {statistics.median(figures.rate_one):.1f}/s"
    return [
        (
            f"memory of four over that of one ({four:.0f} MB and {one:.0f} MB)",
            f"{four / one:.2f}",
            f"<= {GOAL_MEMORY}",
            verdict(met=four / one <= GOAL_MEMORY),
        ),
        (
            f"frames answered, four cameras over one of four times the rate ({rates}; median of pairs; "
            f"{min(pairs):.2f} .. {max(pairs):.2f})",
            f"{statistics.median(pairs):.3f}",
            f">= {GOAL_RATE}",
            verdict(met=statistics.median(pairs) >= GOAL_RATE),
        ),
        (
            "frames answered, the camera with the fewest over that with the most",
            f"{statistics.median(fair):.3f}",
            f">= {GOAL_FAIR}",
            verdict(met=statistics.median(fair) >= GOAL_FAIR),
        ),
    ]


def _write_clip(path: Path) -> None:
    """A real scene in 640x480."""
    source = cv2.VideoCapture(str(sample_clip()))
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, _SIZE)
    for _ in range(_CLIP_FRAMES):
        found, picture = source.read()
        if not found:
            break
        writer.write(cv2.resize(picture, _SIZE))
    writer.release()
    source.release()
