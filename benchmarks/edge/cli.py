"""The command `python -m benchmarks edge`."""

import sys
from pathlib import Path

import click


@click.command("edge")
@click.option("--rounds", type=click.IntRange(min=1), default=9, show_default=True, help="Pairs of runs.")
@click.option("--frames", type=click.IntRange(min=50), default=300, show_default=True, help="Frames a run.")
@click.option(
    "--core", type=click.IntRange(min=0), default=0, show_default=True, help="The core both are bound to."
)
@click.option(
    "--python",
    default=sys.executable,
    help="The interpreter that runs the edge; default: this one. With the extra `edge` alone it is a Pi's.",
)
@click.option("--source", help="A video or image folder; default: a clip from an installed package.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("out/bench-edge"),
    show_default=True,
    help="Figures (bench-edge.json), configurations and logs go here.",
)
@click.option("--memory", "memory_alone", is_flag=True, help="Only the memory of the daemon: half a minute.")
@click.option("--tracking", "tracking_alone", is_flag=True, help="Only what tracking costs.")
@click.option("--detector", help="Folder of a detector's model: how much slower the daemon is that tracks.")
def bench_edge(  # noqa: PLR0913 - one an option
    rounds: int,
    frames: int,
    core: int,
    python: str,
    source: str | None,
    out: Path,
    detector: str | None,
    *,
    memory_alone: bool,
    tracking_alone: bool,
) -> None:
    """Measure what the edge pipeline costs over a bare loop of the same model on the same frames.

    Both are processes bound to one core, run in turn; the figure is the median of the paired ratios. Then the
    latency that the pipeline adds at half that frame rate, and the memory of the daemon in mode hybrid with
    the default pair and a real cloud process. Last, what tracking adds to each frame of a detector.
    """
    from benchmarks.edge.pipeline_cost import BenchSettings, run_bench, run_memory, run_tracking

    run = run_memory if memory_alone else run_tracking if tracking_alone else run_bench
    run(BenchSettings(rounds, frames, core, python, source, out, detector))
