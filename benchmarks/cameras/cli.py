"""The command `python -m benchmarks cameras`."""

import sys
from pathlib import Path

import click


@click.command("cameras")
@click.option("--rounds", type=click.IntRange(min=1), default=9, show_default=True, help="Pairs of runs.")
@click.option("--seconds", type=click.FloatRange(min=2), default=4.0, show_default=True, help="Of each run.")
@click.option(
    "--python",
    default=sys.executable,
    help="The interpreter that runs the edge; default: this one. With the extra `edge` alone it is a Pi's.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("out/bench-cameras"),
    show_default=True,
    help="Figures (bench-cameras.json), configurations and logs go here.",
)
def bench_cameras(rounds: int, seconds: float, python: str, out: Path) -> None:
    """Measure what three more cameras of 640x480 cost a daemon with the default edge model.

    One camera with four times the frame rate stands beside four cameras in turn, both more than the model can
    do: pictures to decode are as many, so what differs is what cameras cost each other. Memory is compared at
    a rate that the model can do.
    """
    from benchmarks.cameras.four_beside_one import CamerasSettings, run_bench

    run_bench(CamerasSettings(rounds, seconds, python, out))
