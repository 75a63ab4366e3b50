"""Measures the pipeline and the bare loop in turn, then the latency that the pipeline adds, and memory."""

import json
import statistics
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.edge.cost_report import EdgeFigures, print_figures, print_memory
from benchmarks.edge.memory import Rss, last_rss
from benchmarks.edge.tracking_cost import TrackingBench, TrackingFigures, bound_to, print_tracking
from spillover.common.errors import SpilloverError
from spillover.common.home import models_home
from spillover.edge.sinks.record import Record
from spillover.lab.daemons import cloud_running, edge_running, run_edge
from spillover.lab.files import merged, sample_clip, write_json
from spillover.lab.models.prepare.pair import CLOUD_MODEL, EDGE_MODEL, prepare_pair
from spillover.lab.processes import finish
from spillover.lab.terminal import Bar, open_console

_SKIP = 20
"""Frames at the beginning of a run that are not timed."""
_LIMIT_S = 300.0


@dataclass(frozen=True, slots=True)
class BenchSettings:
    """The options of the command line."""

    rounds: int
    frames: int
    core: int
    python: str
    """The interpreter that runs the edge daemon and the bare loop."""
    source: str | None
    out: Path
    detector: str | None
    """Folder of a detector's model, for the daemon that tracks."""


def run_bench(settings: BenchSettings) -> None:
    """Measure, print and write `bench-edge.json`.

    Raises:
        SpilloverError: a model cannot be prepared, or a process failed.
    """
    console = open_console()
    prepare_pair(console=console)
    settings.out.mkdir(parents=True, exist_ok=True)
    bench = _Bench(settings)
    with bound_to(settings.core):
        pairs = [
            (bench.pipeline_fps(), bench.bare_fps())
            for _ in Bar().track(range(settings.rounds), "pipeline, bare loop, in turn")
        ]
        bare_fps = statistics.median(bare for _, bare in pairs)
        added_ms = bench.added_latency_ms(bare_fps / 2)
    figures = EdgeFigures(
        rounds=settings.rounds,
        pipeline_fps=statistics.median(pipeline for pipeline, _ in pairs),
        bare_fps=bare_fps,
        ratios=tuple(pipeline / bare for pipeline, bare in pairs),
        added_p50_ms=float(np.percentile(added_ms, 50)),
        added_p99_ms=float(np.percentile(added_ms, 99)),
        rss=bench.hybrid_rss(),
        tracking=_tracking_bench(settings).measure(),
    )
    print_figures(figures, console)
    print_tracking(figures.tracking, console)
    write_json(settings.out / "bench-edge.json", asdict(figures))
    console.print(f"Figures, configurations and logs: {settings.out}")


def run_memory(settings: BenchSettings) -> None:
    """Measure and print the memory alone.

    Raises:
        SpilloverError: a model cannot be prepared, or a process failed.
    """
    console = open_console()
    prepare_pair(console=console)
    settings.out.mkdir(parents=True, exist_ok=True)
    print_memory(_Bench(settings).hybrid_rss(), console)


def run_tracking(settings: BenchSettings) -> None:
    """Measure and print what tracking costs alone.

    Raises:
        SpilloverError: a process failed.
    """
    settings.out.mkdir(parents=True, exist_ok=True)
    figures: TrackingFigures = _tracking_bench(settings).measure()
    print_tracking(figures, open_console())
    write_json(settings.out / "bench-tracking.json", asdict(figures))


def _tracking_bench(settings: BenchSettings) -> TrackingBench:
    return TrackingBench(
        python=settings.python,
        core=settings.core,
        rounds=settings.rounds,
        source=settings.source or str(sample_clip()),
        out=settings.out,
        detector=settings.detector,
    )


class _Bench:
    """The runs, each a process of its own."""

    def __init__(self, settings: BenchSettings) -> None:
        self._settings = settings
        self._source = settings.source or str(sample_clip())
        self._edge_model = str(models_home() / EDGE_MODEL)

    def bare_fps(self) -> float:
        """Frames a second of read, predict, next."""
        arguments = [self._source, self._edge_model, str(self._settings.frames), str(_SKIP)]
        done = subprocess.run(
            [self._settings.python, "-m", "benchmarks.edge.bare", *arguments],
            capture_output=True,
            check=False,
            timeout=_LIMIT_S,
        )
        if done.returncode:
            raise SpilloverError(f"the bare loop failed: {done.stderr.decode(errors='replace')[-2000:]}")
        return float(json.loads(done.stdout)["fps"])

    def pipeline_fps(self) -> float:
        """Frames a second of the daemon in mode edge_only, as fast as it can."""
        records = self._run_edge("edge-pipeline", {"pace": "fast", "loop": True})
        answered = [record.captured_unix_s + record.timings.total_s for record in records[_SKIP:]]
        return (len(answered) - 1) / (answered[-1] - answered[0])

    def added_latency_ms(self, fps: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """Milliseconds from capture to answer that are not reading, preprocessing, inference or decoding."""
        records = self._run_edge("edge-latency", {"fps": fps, "loop": True})
        return np.array([_added_s(record) * 1e3 for record in records[_SKIP:]])

    def hybrid_rss(self) -> Rss:
        """Resident memory of the running daemon in mode hybrid, sending to a real cloud process."""
        out, python = self._settings.out, self._settings.python
        models = {"repository": str(models_home()), "load": [CLOUD_MODEL.parent.name]}
        with cloud_running({"models": models}, out) as cloud:
            hybrid = {
                "mode": "hybrid",
                "uplink": {"address": cloud.address},
                "policy": {"kind": "max_softmax", "threshold": 0.5},
            }
            config = merged(self._config({"fps": 15, "loop": True}), hybrid)
            with edge_running(config, out, "edge-memory", python=python) as edge:
                rss = last_rss(edge.process, _LIMIT_S)
                finish(edge.process, edge.log, limit_s=1)
                return rss

    def _run_edge(self, name: str, camera: Mapping[str, Any]) -> list[Record]:
        out, python = self._settings.out, self._settings.python
        return run_edge(self._config(camera), out, name, limit_s=_LIMIT_S, python=python)

    def _config(self, camera: Mapping[str, Any]) -> Mapping[str, Any]:
        return {
            "mode": "edge_only",
            "camera": {"source": self._source, "max_frames": self._settings.frames} | dict(camera),
            "model": {"folder": self._edge_model, "session": {"threads": 1}},
        }


def _added_s(record: Record) -> float:
    times = record.timings
    return times.total_s - times.capture_s - times.preprocess_s - times.infer_s - times.decode_s
