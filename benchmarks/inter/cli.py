"""`python -m benchmarks inter`."""

from pathlib import Path

import click

from benchmarks.reports import folder_option, out_option, show
from spillover.lab.params import threads_option

PARTS = ("payloads", "tracks", "cpu", "losses", "wire")


@click.command("inter")
@folder_option(
    "Networks (models/), labelled pictures (data/), video/vtest.avi; what is missing is passed over."
)
@out_option("bench-inter", "report.md, plots, and the figures of each clip.")
@click.option("--clip", "clips", multiple=True, help="Only clips whose name begins so; may be repeated.")
@click.option(
    "--part",
    "parts",
    type=click.Choice(PARTS),
    multiple=True,
    help="Only this part; may be repeated.",
)
@threads_option
def bench_inter(
    folder: Path, out: Path, clips: tuple[str, ...], parts: tuple[str, ...], threads: int
) -> None:
    """Send frames of clips as JPEG and as video: bytes, F1, CPU time, what the wire carries, and the goals.

    Answers of the models are cached: the first run takes some ten minutes, a second one a third of that, and
    gives the same figures but for the times.
    """
    from benchmarks.inter.inter_benchmark import write_report
    from spillover.lab.terminal import Bar

    path = write_report(folder, out, Bar(), clips, parts or PARTS, threads)
    show(path)
