"""The demo: a cloud process, and an edge process for each mode over the same frames."""

import contextlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from spillover.common.errors import SourceError
from spillover.common.home import models_home
from spillover.common.model.ensemble.opening import load_model
from spillover.common.model.session_config import SessionConfig
from spillover.common.types import Prediction
from spillover.edge.camera.open import open_source
from spillover.edge.sinks.record import Record
from spillover.lab.daemons import cloud_running, run_edge
from spillover.lab.data.pictures import camera_pictures
from spillover.lab.files import merged, sample_clip, write_json
from spillover.lab.runs.demo.demo_table import figures_of, print_table
from spillover.lab.runs.demo.pairs import DemoPair, chosen
from spillover.lab.runs.demo.strip import write_strip
from spillover.lab.terminal import Bar, open_console

MODES = ("edge_only", "cloud_only", "hybrid")
_START_LIMIT_S = 60.0


@dataclass(frozen=True, slots=True)
class DemoSettings:
    """The options of the command line."""

    pair: str
    source: str | None
    fps: float
    frames: int
    deadline_s: float
    out: Path


def run_demo(settings: DemoSettings) -> None:
    """Prepare the pair, run every mode, print the table, write `demo.json` and a strip of pictures.

    Raises:
        SpilloverError: a model cannot be prepared, the source cannot be read, or a process failed.
    """
    console = open_console()
    pair = chosen(settings.pair)
    pair.prepare(console)
    settings.out.mkdir(parents=True, exist_ok=True)
    source = settings.source or str(sample_clip())
    reference = _reference(pair, source, settings.frames)
    models = {"repository": str(models_home()), "load": [pair.cloud.parent.name]}
    with cloud_running({"models": models}, settings.out) as cloud:
        results = {
            mode: _run_mode(settings, pair, mode, source, cloud.address)
            for mode in Bar().track(MODES, "edge, modes")
        }
    figures = {mode: figures_of(records, reference, settings.deadline_s) for mode, records in results.items()}
    print_table(figures, console)
    content = {
        "pair": {"edge": str(pair.edge), "cloud": str(pair.cloud)},
        "source": source,
        "fps": settings.fps,
        "deadline_s": settings.deadline_s,
        "modes": {mode: asdict(row) for mode, row in figures.items()},
    }
    write_json(settings.out / "demo.json", content)
    if reference:
        strip = settings.out / "strip.jpg"
        write_strip(strip, open_source(source), results)
        console.print(
            f"What each mode saw (edge orange, cloud green, carried dashed): {strip}",
            highlight=False,
            soft_wrap=True,
        )
    console.print(f"Results, logs and configurations: {settings.out}")


def _reference(pair: DemoPair, source: str, frames: int) -> dict[int, Prediction]:
    """The cloud model's own answer for every frame, uncompressed and without a deadline; by frame number.

    A live source cannot be read twice, so there it is empty and agreement is not shown.
    """
    pictures = open_source(source)
    if pictures.live:
        pictures.close()
        return {}
    model = load_model(models_home() / pair.cloud, SessionConfig())
    numbers = Bar().track(range(frames), "cloud model, every frame")
    with contextlib.closing(camera_pictures(pictures)) as shown:
        answers = {number: model.predict(p.image)[0] for number, p in zip(numbers, shown, strict=False)}
    if not answers:
        raise SourceError(f"no picture could be read from {source}")
    return answers


def _run_mode(settings: DemoSettings, pair: DemoPair, mode: str, source: str, address: str) -> list[Record]:
    name, limit_s = f"edge-{mode}", _START_LIMIT_S + 3 * settings.frames / settings.fps
    config = _edge_config(settings, pair, mode, source, address)
    records = run_edge(config, settings.out, name, limit_s=limit_s)
    if not records:
        raise SourceError(f"mode {mode} answered no frame; its log is {settings.out / name}.log")
    return records


def _edge_config(
    settings: DemoSettings, pair: DemoPair, mode: str, source: str, address: str
) -> Mapping[str, Any]:
    config = {
        "device_id": "demo",
        "mode": mode,
        "deadline_s": settings.deadline_s,
        "camera": {"source": source, "fps": settings.fps, "max_frames": settings.frames},
        # One thread, so that the edge leaves the other core to the cloud, as two machines would.
        "model": {"folder": str(models_home() / pair.edge), "session": {"threads": 1}},
        "uplink": {"address": address},
    }
    return merged(config, pair.hybrid) if mode == "hybrid" else config
