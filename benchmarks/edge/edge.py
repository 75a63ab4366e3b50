"""Runs the pipeline and the bare loop in turn, then measures added latency and memory."""

import contextlib
import json
import os
import statistics
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import yaml
from rich.progress import track

from benchmarks.edge.memory import Rss, import_costs_mb, last_rss
from benchmarks.edge.report import EdgeFigures, print_figures
from spillover.common.errors import SpilloverError
from spillover.common.home import models_home
from spillover.edge.sinks.record import Record
from spillover.lab.console import open_console
from spillover.lab.models.prepare.pair import CLOUD_MODEL, EDGE_MODEL, prepare_pair
from spillover.lab.package_data import sample_clip
from spillover.lab.processes import finish, running, wait_for_file
from spillover.lab.records import read_records
from spillover.lab.yaml_files import write_yaml

_SKIP = 20
"""Frames at the beginning of a run that are not timed."""
_LIMIT_S = 300.0


@dataclass(frozen=True, slots=True)
class BenchSettings:
    """What the command line said."""

    rounds: int
    frames: int
    core: int
    python: str
    """The interpreter that runs the edge daemon and the bare loop."""
    source: str | None
    out: Path


def run_bench(settings: BenchSettings) -> None:
    """Measure, print and write `bench-edge.json`.

    Raises:
        SpilloverError: a model cannot be prepared, or a process failed.
    """
    console = open_console()
    prepare_pair(console=console)
    settings.out.mkdir(parents=True, exist_ok=True)
    bench = _Bench(settings)
    with _bound_to(settings.core):
        pairs = [
            (bench.pipeline_fps(), bench.bare_fps())
            for _ in track(range(settings.rounds), "pipeline, bare loop, in turn", console=console)
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
        import_costs_mb=import_costs_mb(settings.python),
    )
    print_figures(figures, console)
    target = settings.out / "bench-edge.json"
    target.write_text(json.dumps(asdict(figures), indent=2) + "\n", encoding="utf-8")
    console.print(f"Figures, configurations and logs: {settings.out}")


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
        records = self._run_edge("pipeline", {"mode": "edge_only"}, {"pace": "fast", "loop": True})
        answered = [record.captured_unix_s + record.timings.total_s for record in records[_SKIP:]]
        return (len(answered) - 1) / (answered[-1] - answered[0])

    def added_latency_ms(self, fps: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """Milliseconds from capture to answer that are not reading, preprocessing, inference or decoding."""
        records = self._run_edge("latency", {"mode": "edge_only"}, {"fps": fps, "loop": True})
        return np.array([_added_s(record) * 1e3 for record in records[_SKIP:]])

    def hybrid_rss(self) -> Rss:
        """Resident memory of the running daemon in mode hybrid, sending to a real cloud process."""
        out = self._settings.out
        ready, log = out / "cloud.address", out / "cloud.log"
        ready.unlink(missing_ok=True)
        models = {"repository": str(models_home()), "load": [CLOUD_MODEL.parent.name]}
        write_yaml(out / "cloud.yaml", {"listen": "127.0.0.1:0", "models": models, "metrics": None})
        with running(["cloud", "-c", str(out / "cloud.yaml"), "--ready-file", str(ready)], log) as cloud:
            address = wait_for_file(ready, cloud, log)
            config = self._edge_config("memory", {"mode": "hybrid"}, {"fps": 15, "loop": True})
            write_yaml(
                config,
                yaml.safe_load(config.read_text(encoding="utf-8"))
                | {"uplink": {"address": address}, "policy": {"kind": "max_softmax", "threshold": 0.5}},
            )
            log = out / "edge-memory.log"
            with running(["edge", "-c", str(config)], log, python=self._settings.python) as edge:
                rss = last_rss(edge, _LIMIT_S)
                finish(edge, log, limit_s=1)
                return rss

    def _run_edge(self, name: str, top: Mapping[str, object], camera: Mapping[str, object]) -> list[Record]:
        config = self._edge_config(name, top, camera)
        log = self._settings.out / f"edge-{name}.log"
        with running(["edge", "-c", str(config)], log, python=self._settings.python) as edge:
            finish(edge, log, limit_s=_LIMIT_S)
        return read_records(self._settings.out / f"{name}.jsonl")

    def _edge_config(self, name: str, top: Mapping[str, object], camera: Mapping[str, object]) -> Path:
        out = self._settings.out
        results = out / f"{name}.jsonl"
        results.unlink(missing_ok=True)
        config = {
            "camera": {"source": self._source, "max_frames": self._settings.frames} | dict(camera),
            "model": {"folder": self._edge_model, "session": {"threads": 1}},
            "sinks": [{"kind": "jsonl", "path": str(results)}],
        }
        path = out / f"edge-{name}.yaml"
        write_yaml(path, config | dict(top))
        return path


def _added_s(record: Record) -> float:
    times = record.timings
    return times.total_s - times.capture_s - times.preprocess_s - times.infer_s - times.decode_s


@contextlib.contextmanager
def _bound_to(core: int) -> Iterator[None]:
    """Bind this process to one core, and with it every process it starts while the block lasts."""
    before = os.sched_getaffinity(0)
    if core not in before:
        raise SpilloverError(f"core {core} is not among those this process may use: {sorted(before)}")
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
