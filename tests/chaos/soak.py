"""`make soak`: ordinary trouble and a viewer for a while; a verdict, and a plot of what happened."""

import argparse
import itertools
import json
import os
import random
import shutil
import sys
import tempfile
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import click

from spillover.common.model.locate import find_model_folder
from spillover.lab.files import sample_clip
from spillover.lab.models.prepare.pair import CLOUD_MODEL, EDGE_MODEL, prepare_pair
from spillover.lab.processes import terminable
from spillover.lab.terminal import open_console
from tests.chaos.edge import Edge
from tests.chaos.faults import LINK_FAULTS
from tests.chaos.field import Cast, Field, Sample
from tests.chaos.viewer import Viewer

_CALM_S = 20.0
"""Between two faults, on average."""
_LOOK_S = 1.0
_MIN_RATE = 0.95


def main() -> int:
    """Run for as long as the command line says; exit code 1 when a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--out", type=Path, default=Path("out/soak"))
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with terminable(), tempfile.TemporaryDirectory(prefix="spillover-soak-") as folder:
        field = Field(Path(folder), scale=3.0, cast=default_pair)
        sinks = [{"kind": "jsonl", "path": os.devnull}]
        twin = Edge(Path(folder), "twin", field.plain | {"sinks": sinks}, {})
        # Children die with the thread that started them, and a fault may start a server: so until the end.
        trouble = ThreadPoolExecutor(1)
        viewer = Viewer(field.edge.address, random.Random(options.seed))
        try:
            before = field.edge.look().frames, twin.look().frames
            viewer.start()
            faults = soak(field, options.minutes, random.Random(options.seed), trouble)
            given, twin_given = field.edge.look().frames - before[0], twin.look().frames - before[1]
            viewer.stop(_LOOK_S * 30)
            code = field.edge.stop()
            verdict = field.verdict()
        finally:
            trouble.shutdown()
            twin.kill()
            field.close()
    violations = [
        *verdict.violations,
        *_judge(field.samples, given / twin_given),
        *viewer.faults(),
        *([f"exit code {code}"] if code else []),
    ]
    report = {
        "minutes": options.minutes,
        "own_mb": round(max(sample.look.own_mb for sample in field.samples), 1),
        "frames_of_edge_only": round(given / twin_given, 4),
        "viewer": {"visits": viewer.visits, "pictures": viewer.pictures},
        "faults": faults,
        "endings": verdict.endings,
        "accepted": verdict.accepted,
        "fates": verdict.fates,
        "violations": violations,
    }
    (options.out / "soak.json").write_text(json.dumps(report, indent=1))
    plot(field.samples, faults, options.out / "soak.png")
    click.echo(json.dumps(report, indent=1))
    click.echo(f"plot: {options.out / 'soak.png'}")
    return 1 if violations else 0


def default_pair(folder: Path) -> Cast:
    """The models that a user begins with, on a street."""
    prepare_pair(console=open_console())
    cloud = folder / "cloud" / CLOUD_MODEL
    shutil.copytree(find_model_folder(CLOUD_MODEL), cloud)  # a server follows no link out of its folder
    return Cast(str(EDGE_MODEL), str(folder / "cloud"), str(sample_clip()), "hybrid")


def soak(
    field: Field, minutes: float, rng: random.Random, trouble: ThreadPoolExecutor
) -> list[tuple[float, str]]:
    """Let trouble come and go, looking at the edge every second; gives when which fault began."""
    begun: list[tuple[float, str]] = []
    end_s = time.monotonic() + 60 * minutes
    next_fault_s = time.monotonic() + 5.0
    current: Future[None] | None = None
    while time.monotonic() < end_s or current is not None:
        sample = field.sample(at_peace=False)
        if current is not None and current.done():
            current.result()
            field.heal()
            current, next_fault_s = None, time.monotonic() + _CALM_S * (0.5 + rng.random())
        elif current is None and time.monotonic() >= next_fault_s:
            fault = rng.choice(LINK_FAULTS)
            begun.append((round(sample.at_s, 1), fault.__name__))
            current = trouble.submit(fault, field, rng)
        time.sleep(_LOOK_S)
    return begun


def _judge(samples: list[Sample], rate: float) -> list[str]:
    """Memory flat over the second half; `rate` is the frames answered over those of edge_only."""
    half = samples[len(samples) // 2 :]
    found = []
    if (growth_mb := half[-1].look.own_mb - half[0].look.own_mb) > 10:
        found.append(f"memory grew by {growth_mb:.0f} MB over the second half")
    if (more := half[-1].look.descriptors - half[0].look.descriptors) > 8:
        found.append(f"{more} descriptors more at the end than half-way")
    if rate < _MIN_RATE:
        found.append(f"{rate:.3f} of the frames that edge_only answered beside it")
    return found


def plot(samples: list[Sample], faults: list[tuple[float, str]], path: Path) -> None:
    """Four panels over time, faults as vertical lines."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    times = [sample.at_s for sample in samples]
    rates = [(b.look.frames - a.look.frames) / (b.at_s - a.at_s) for a, b in itertools.pairwise(samples)]
    rates = [*rates[:1], *rates]
    open_share = [sample.look.metrics.get('spillover_edge_breaker{phase="open"}', 0.0) for sample in samples]
    pending = [sample.look.metrics.get("spillover_edge_spool_pending", 0.0) for sample in samples]
    panels = (
        ("memory, MB", [sample.look.own_mb for sample in samples]),
        ("frames a second", rates),
        ("frames on the disk", pending),
        ("breaker open", open_share),
    )
    figure, axes = plt.subplots(len(panels), 1, sharex=True, figsize=(10, 9), layout="constrained")
    for axis, (label, values) in zip(axes, panels, strict=True):
        axis.plot(times, values, drawstyle="steps-post")
        axis.set_ylabel(label)
        axis.set_ylim(0, 1.1 * max([*values, 1.0]))
        for at_s, name in faults:
            axis.axvline(at_s, color="tab:red", alpha=0.3)
            if axis is axes[0]:
                axis.annotate(name, (at_s, 0), rotation=90, fontsize=6, va="bottom")
    axes[-1].set_xlabel("seconds")
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
