"""`python -m benchmarks disk`."""

import tempfile
from pathlib import Path

import click

from spillover.common.errors import SpilloverError
from spillover.edge.config.sinks import DecisionDetail


class BoundExceededError(SpilloverError):
    """Something took more of the disk than its bound."""


@click.command("disk")
@click.option(
    "--days", type=click.FloatRange(min=0, min_open=True), default=30.0, show_default=True, help="How long."
)
@click.option(
    "--fps",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    help="Frames a second.",
)
@click.option(
    "--scale",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="Divides frames and bounds alike, so that it ends today.",
)
@click.option(
    "--decision",
    type=click.Choice([detail.value for detail in DecisionDetail]),
    default=DecisionDetail.SHORT.value,
    show_default=True,
    help="What the sinks write of each decision.",
)
def bench_disk(days: float, fps: float, scale: int, decision: str) -> None:
    """Write a month of frames to each kind of file on a clock of its own; show the disk beside the bounds.

    Sinks and spool are those of the daemon, with the default bounds. Exit code 1 when one is exceeded.
    """
    from benchmarks.disk.month import write_month

    rows = []
    click.echo(f"{'':<8}{'frames':>10}{'written MB':>12}{'on disk MB':>12}{'bound MB':>10}{'kept days':>11}")
    with tempfile.TemporaryDirectory(prefix="spillover-disk-") as folder:
        for row in write_month(Path(folder), days, fps, scale, DecisionDetail(decision)):
            rows.append(row)
            click.echo(
                f"{row.what:<8}{row.frames:>10}{row.written_bytes / 1e6:>12.1f}"
                f"{row.largest_bytes / 1e6:>12.2f}{row.bound_bytes / 1e6:>10.2f}{row.kept_days:>11.2f}"
            )
    if exceeded := [row.what for row in rows if row.largest_bytes > row.bound_bytes]:
        raise BoundExceededError(f"more than its bound: {', '.join(exceeded)}")
