"""The command `spillover lab demo`."""

from pathlib import Path

import click


@click.command()
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
    "--threshold",
    type=float,
    default=0.7,
    show_default=True,
    help="hybrid sends a frame whose 1 - p1 reaches this.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("out/demo"),
    show_default=True,
    help="Results go here.",
)
def demo(source: str | None, fps: float, frames: int, deadline_s: float, threshold: float, out: Path) -> None:
    """Run the default pair on real pictures in edge_only, cloud_only and hybrid, and print one table.

    A cloud process and, for each mode, an edge process are started on the loopback interface. Their
    configurations, logs and results (JSON lines) stay in --out, to look at and to start from.
    """
    from spillover.lab.runs.demo.demo import DemoSettings, run_demo

    run_demo(DemoSettings(source, fps, frames, deadline_s, threshold, out))
