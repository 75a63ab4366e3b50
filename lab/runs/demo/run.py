"""Starts the processes of the demo and gathers what they wrote."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from spillover.common.errors import SourceError
from spillover.common.home import models_home
from spillover.common.model.session import Model
from spillover.common.model.session_config import SessionConfig
from spillover.common.types import Prediction
from spillover.edge.camera.open import open_source
from spillover.edge.camera.source import UnreadablePictureError
from spillover.edge.sinks.record import Record
from spillover.lab.console import open_console
from spillover.lab.models.prepare.pair import CLOUD_MODEL, EDGE_MODEL, prepare_pair
from spillover.lab.package_data import sample_clip
from spillover.lab.processes import finish, running, wait_for_file
from spillover.lab.records import read_records
from spillover.lab.runs.demo.report import ModeFigures, figures_of, print_table
from spillover.lab.yaml_files import write_yaml

MODES = ("edge_only", "cloud_only", "hybrid")
_START_LIMIT_S = 60.0


@dataclass(frozen=True, slots=True)
class DemoSettings:
    """What the command line said."""

    source: str | None
    fps: float
    frames: int
    deadline_s: float
    threshold: float
    out: Path


def run_demo(settings: DemoSettings) -> None:
    """Prepare the pair, run every mode, print the table and write `demo.json`.

    Raises:
        SpilloverError: a model cannot be prepared, the source cannot be read, or a process failed.
    """
    console = open_console()
    prepare_pair(console=console)
    settings.out.mkdir(parents=True, exist_ok=True)
    source = settings.source or str(sample_clip())
    with Progress(
        TextColumn("{task.description:24}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    ) as progress:
        reference = _reference(source, settings.frames, progress)
        results = _run_modes(settings, source, progress)
    figures = {mode: figures_of(records, reference, settings.deadline_s) for mode, records in results.items()}
    print_table(figures, console)
    _write_json(settings, source, figures)
    console.print(f"Results, logs and configurations: {settings.out}")


def _reference(source: str, frames: int, progress: Progress) -> dict[int, Prediction]:
    """The cloud model's own answer for every frame, uncompressed and without a deadline; by frame number.

    A live source cannot be read twice, so there it is empty and agreement is not shown.
    """
    pictures = open_source(source)
    if pictures.live:
        pictures.close()
        return {}
    model = Model.load(models_home() / CLOUD_MODEL, SessionConfig())
    answers: dict[int, Prediction] = {}
    task = progress.add_task("cloud model, every frame", total=frames)
    try:
        while len(answers) < frames:
            try:
                picture = pictures.read()
            except UnreadablePictureError:
                continue  # the edge passes over it too and gives it no number
            if picture is None:
                break
            answers[len(answers)], _ = model.predict(picture.image)
            progress.advance(task)
    finally:
        pictures.close()
    if not answers:
        raise SourceError(f"no picture could be read from {source}")
    progress.update(task, total=len(answers))
    return answers


def _run_modes(settings: DemoSettings, source: str, progress: Progress) -> dict[str, list[Record]]:
    out = settings.out
    cloud_yaml, ready = out / "cloud.yaml", out / "cloud.address"
    ready.unlink(missing_ok=True)
    write_yaml(cloud_yaml, _cloud_config())
    log = out / "cloud.log"
    task = progress.add_task("edge process, mode", total=len(MODES))
    results = {}
    with running(["cloud", "-c", str(cloud_yaml), "--ready-file", str(ready)], log) as cloud:
        address = wait_for_file(ready, cloud, log, limit_s=_START_LIMIT_S)
        for mode in MODES:
            progress.update(task, description=f"edge process, {mode}")
            results[mode] = _run_edge(settings, mode, source, address)
            progress.advance(task)
    return results


def _run_edge(settings: DemoSettings, mode: str, source: str, address: str) -> list[Record]:
    out = settings.out
    config, log, results = out / f"edge-{mode}.yaml", out / f"edge-{mode}.log", out / f"{mode}.jsonl"
    results.unlink(missing_ok=True)
    write_yaml(config, _edge_config(settings, mode, source, address, results))
    with running(["edge", "-c", str(config)], log) as edge:
        finish(edge, log, limit_s=_START_LIMIT_S + 3 * settings.frames / settings.fps)
    records = read_records(results)
    if not records:
        raise SourceError(f"mode {mode} answered no frame; its log is {log}")
    return records


def _cloud_config() -> Mapping[str, object]:
    return {
        "listen": "127.0.0.1:0",
        "models": {"repository": str(models_home()), "load": [CLOUD_MODEL.parent.name]},
        "metrics": None,
    }


def _edge_config(
    settings: DemoSettings, mode: str, source: str, address: str, results: Path
) -> Mapping[str, object]:
    return {
        "device_id": "demo",
        "mode": mode,
        "deadline_s": settings.deadline_s,
        "camera": {"source": source, "fps": settings.fps, "max_frames": settings.frames},
        # One thread, so that the edge leaves the other core to the cloud, as two machines would.
        "model": {"folder": str(models_home() / EDGE_MODEL), "session": {"threads": 1}},
        "policy": {"kind": "max_softmax", "threshold": settings.threshold},
        "uplink": {"address": address},
        "sinks": [{"kind": "jsonl", "path": str(results)}],
    }


def _write_json(settings: DemoSettings, source: str, figures: Mapping[str, ModeFigures]) -> None:
    content = {
        "source": source,
        "fps": settings.fps,
        "deadline_s": settings.deadline_s,
        "modes": {mode: asdict(figure) for mode, figure in figures.items()},
    }
    (settings.out / "demo.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
