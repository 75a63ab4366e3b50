"""`spillover lab overlay`."""

from pathlib import Path

import click

from spillover.lab.params import EXISTING, FOLDER


@click.command()
@click.option("--results", type=EXISTING, required=True, help="JSON lines of `spillover edge`.")
@click.option("--source", required=True, help="What the camera saw: the same video, picture or folder.")
@click.option("--out", type=FOLDER, required=True, help="Folder for the pictures.")
@click.option("--every", type=click.IntRange(min=1), default=1, show_default=True, help="Each n-th frame.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many pictures; default: all.")
@click.option(
    "--answered-by",
    type=click.Choice(["edge", "cloud", "edge_degraded"]),
    help="Frames with this ending alone.",
)
def overlay(
    results: Path, source: str, out: Path, every: int, limit: int | None, answered_by: str | None
) -> None:
    """Draw the results of a run into its frames: boxes with labels, and who answered and why.

    Boxes of the edge are orange, of the cloud green, of the edge in the cloud's place red; a tracked box has
    the colour of the side that confirmed it last, and is dashed where it was carried. A late answer replaces
    the first. Frames of a folder are found by their names, those of a video by their numbers: the
    run must have begun at the video's first frame, without `camera.loop`.

    \b
    spillover edge -c edge.yaml --source street.avi --output street.jsonl
    spillover lab overlay --results street.jsonl --source street.avi --out street --every 10
    """  # noqa: D301 - click's mark of a paragraph that is not to be filled is a real backspace
    from spillover.edge.camera.open import open_source
    from spillover.edge.camera.video import quiet_opencv
    from spillover.lab.records import read_records
    from spillover.lab.runs.overlay.overlay import Choice, draw_run

    quiet_opencv()
    count = draw_run(read_records(results), open_source(source), out, Choice(every, limit, answered_by))
    click.echo(f"{count} pictures in {out}")
