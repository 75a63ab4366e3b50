"""`python -m benchmarks video`."""

from pathlib import Path

import click

from benchmarks.reports import folder_option, out_option, show
from spillover.lab.params import threads_option


@click.command("video")
@folder_option(
    "Networks (models/), labelled pictures (data/), video/vtest.avi; what is missing is passed over."
)
@out_option("bench-video", "report.md, and the figures of each pair and clip.")
@click.option("--clip", "clips", multiple=True, help="Only clips whose name begins so; may be repeated.")
@click.option(
    "--whole", is_flag=True, help="All shares, delays and forms as `lab evaluate`, with a plot; long."
)
@threads_option
def bench_video(folder: Path, out: Path, clips: tuple[str, ...], whole: bool, threads: int) -> None:
    """Play clips with pairs of detectors, and hold F1 over bytes against the goals.

    Without --whole only what the goals ask for is played. Answers of the models are cached: the first run
    takes minutes for each clip, a second one is quicker and gives the same figures.
    """
    from benchmarks.video.video_benchmark import write_report
    from spillover.lab.terminal import Bar

    path = write_report(folder, out, Bar(), clips, whole=whole, threads=threads)
    show(path)
