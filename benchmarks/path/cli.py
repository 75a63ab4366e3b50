"""The command `python -m benchmarks path`."""

from pathlib import Path

import click


@click.command("path")
@click.option("--frames", type=click.IntRange(min=10), default=40, show_default=True, help="Frames to run.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("out/path"),
    show_default=True,
    help="Configurations, logs and results go here.",
)
def trace_path(frames: int, out: Path) -> None:
    """List the files of edge/ that an offloaded frame runs through.

    A daemon with budget, audits, spool and temporal correction sends frames of the sample clip to a real
    cloud process. Calls are counted in all its threads from the moment it is ready. Run
    `spillover lab prepare` first.
    """
    from benchmarks.path.offloaded_frame import trace_offloaded_frames
    from spillover.lab.terminal import open_console

    trace_offloaded_frames(frames, out, open_console())
