"""`python -m benchmarks rate`."""

from pathlib import Path

import click

from benchmarks.reports import folder_option, out_option, show

PARTS = ("clips", "camera")


@click.command("rate")
@folder_option("A folder with video/vtest.avi; where it is missing a clip of a package stands in.")
@out_option("bench-rate", "report.md, configurations, logs and results.")
@click.option("--part", "parts", type=click.Choice(PARTS), multiple=True, help="Only this; may be repeated.")
def bench_rate(folder: Path, out: Path, parts: tuple[str, ...]) -> None:
    """Hold a frame rate that follows the scene against the full rate and against cloud_only.

    `clips`: what the model looks at and what of the cloud's boxes is lost, by playing clips, the same each
    time. `camera`: a camera of 30 frames a second before the daemon: drops, processor time, latency by stage.
    """
    from benchmarks.rate.rate_report import write_report
    from spillover.lab.terminal import Bar, open_console

    show(write_report(folder, out, parts or PARTS, Bar(), open_console()))
