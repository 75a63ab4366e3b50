"""What INT8 gains and costs the edge's detector on this device, against goals."""

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
from rich.console import Console

from spillover.common.model.manifest import open_model_folder
from spillover.common.model.session import Model
from spillover.common.types import Image
from spillover.lab.data.labelled import LabelledSet
from spillover.lab.models.prepare.detection import DetectionPair
from spillover.lab.models.profile.timing import interleaved_seconds
from spillover.lab.models.quantize.cost import ONE_THREAD
from spillover.lab.pairs.evaluate.classes import judging
from spillover.lab.pairs.evaluate.mixture import accuracy_of
from spillover.lab.pairs.evaluate.predict import predict_all
from spillover.lab.terminal import Progress, table

LEAST_SPEEDUP, MOST_LOSS = 1.6, 0.01
ROUNDS = 40
_DOT_PRODUCTS = ("avx512_vnni", "avx_vnni", "asimddp")
"""As Linux names the instructions that add four products of 8 bits at a time."""


@dataclass(frozen=True, slots=True)
class Int8Figures:
    """Float first, then INT8. `ap` and `cloud_ap` are None without labels."""

    size_mb: tuple[float, float]
    median_ms: tuple[float, float]
    speedup: float
    ap: tuple[float, float] | None = None
    cloud_ap: float | None = None
    has_dot_products: bool = True


def measure(pair: DetectionPair, labelled: LabelledSet | None, progress: Progress) -> Int8Figures:
    """Measure both forms of the edge's model: processor time of one thread, and AP where there are labels.

    Raises:
        ModelError: a model cannot be run.
        SourceError: a picture cannot be read, or the labels are of other classes.
    """
    folders = pair.edge_float, pair.edge
    models = [Model.load(folder, ONE_THREAD) for folder in folders]
    spec = models[0].manifest.own_input
    picture = labelled.pictures[0].image() if labelled else _grey(spec.height, spec.width)
    tensors = [model.prepare(picture)[0][None] for model in models]
    runs = {str(m.model_id): partial(m.run, t) for m, t in zip(models, tensors, strict=True)}
    floats, int8s = interleaved_seconds(runs, ROUNDS, time.thread_time).values()
    ap, cloud_ap = None, None
    if labelled is not None:
        labelled = judging(labelled, *folders, pair.cloud)
        before, after, clouds = (
            accuracy_of(labelled.truth, predict_all(one, labelled, progress))
            for one in (*folders, pair.cloud)
        )
        ap, cloud_ap = (before, after), clouds
    sizes = [open_model_folder(one).onnx_path.stat().st_size / 1e6 for one in folders]
    return Int8Figures(
        (sizes[0], sizes[1]),
        (1e3 * median(floats), 1e3 * median(int8s)),
        median(a / b for a, b in zip(floats, int8s, strict=True)),
        ap,
        cloud_ap,
        _has_dot_products(),
    )


def print_goals(figures: Int8Figures, console: Console) -> None:
    """A table with a line for each figure, its goal, and whether that is met."""
    fast = "met" if figures.speedup >= LEAST_SPEEDUP else "missed"
    if not figures.has_dot_products:
        fast = "no goal here: this processor has no VNNI or dot products"
    rows = [
        ("file, MB", *(f"{one:.1f}" for one in figures.size_mb), "", ""),
        (
            "processor time of a picture, ms",
            *(f"{one:.1f}" for one in figures.median_ms),
            f"{figures.speedup:.2f} times as fast, goal {LEAST_SPEEDUP}",
            fast,
        ),
    ]
    if figures.ap is None:
        rows.append(("AP", "", "", f"at most {100 * MOST_LOSS:.0f} point less", "not measured: --data"))
    else:
        lost = figures.ap[0] - figures.ap[1]
        told = f"{100 * lost:.1f} points less, goal at most {100 * MOST_LOSS:.0f}"
        rows.append(
            ("AP", *(f"{one:.3f}" for one in figures.ap), told, "met" if lost <= MOST_LOSS else "missed")
        )
    caption = "" if figures.cloud_ap is None else f"The cloud's model: AP {figures.cloud_ap:.3f}"
    headings = ("", "FP32", "INT8", "goal", "")
    console.print(table(headings, rows, title="INT8 on this device", caption=caption, left=("goal",)))


def _grey(height: int, width: int) -> Image:
    return np.full((height, width, 3), 128, np.uint8)


def _has_dot_products() -> bool:
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:  # elsewhere than on Linux nothing is known
        return True
    return any(name in told for name in _DOT_PRODUCTS)
