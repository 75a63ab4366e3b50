"""The command `spillover lab demo`."""

from pathlib import Path

import click


@click.command()
@click.option(
    "--pair",
    type=click.Choice(["auto", "classification", "detection"]),
    default="auto",
    show_default=True,
    help="The models; auto: detection where `lab prepare --pair detection` has made it, else classification.",
)
@click.option(
    "--source", help="A video, image folder, URL or camera; default: a clip from an installed package."
)
@click.option(
    "--fps", type=click.FloatRange(min=0.1), default=10.0, show_default=True, help="Pace of the camera."
)
@click.option(
    "--frames", type=click.IntRange(min=1), default=150, show_default=True, help="Frames a mode, at most."
)
@click.option(
    "--deadline",
    "deadline_s",
    type=float,
    default=0.3,
    show_default=True,
    help="Seconds to the first answer.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("out/demo"),
    show_default=True,
    help="Results go here.",
)
def demo(pair: str, source: str | None, fps: float, frames: int, deadline_s: float, out: Path) -> None:
    """Run a pair of models on real pictures in edge_only, cloud_only and hybrid, and print one table.

    A cloud process and, for each mode, an edge process are started on the loopback interface. Their
    configurations, logs and results (JSON lines) stay in --out, to look at and to start from, and a picture
    of a few frames as each mode saw them.

    The detection pair is downloaded first where it is missing; what that takes is said beforehand.
    """
    from spillover.lab.runs.demo.demo import DemoSettings, run_demo

    run_demo(DemoSettings(pair, source, fps, frames, deadline_s, out))
