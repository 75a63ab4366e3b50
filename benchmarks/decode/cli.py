"""`python -m benchmarks decode` and `decode-accuracy`."""

import tempfile
from pathlib import Path

import click

from spillover.lab.params import EXISTING, MODEL, threads_option

GOALS = {("640x480", 1): 0.86, ("640x480", 16): 0.92, ("1280x720", 1): 0.5, ("1280x720", 16): 0.5}
"""Cost as a share of commit 490090c's, which decoded all of every picture."""


@click.command("decode")
@click.option("--against", metavar="COMMIT", help="Also measure the server of this commit, in turns.")
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True, help="Turns of each.")
@click.option("--requests", type=click.IntRange(min=10), default=200, show_default=True, help="Of a turn.")
@click.option(
    "--pictures", type=click.IntRange(min=10), default=200, show_default=True, help="Of the device."
)
@click.option("--cost/--no-cost", default=True, help="Measure what a picture costs.")
@click.option("--fairness/--no-fairness", default=True, help="Measure who waits for whom.")
def bench_decode(
    against: str | None, rounds: int, requests: int, pictures: int, *, cost: bool, fairness: bool
) -> None:
    """What a picture costs the server, and how long one device's pictures take while another floods it.

    Needs h2load (Debian's nghttp2-client). Cost is processor time of the whole server for one request, with a
    network that costs next to nothing; the goals are shares of what commit 490090c needed. The flood keeps 24
    pictures of 25 million pixels in flight; the good device sends 20 of 640x480 a second.
    """
    from spillover.lab.terminal import Bar

    if cost:
        _print_cost(against, rounds, requests)
    for workers in (1, 2) if fairness else ():
        from benchmarks.decode import fairness as fair

        with tempfile.TemporaryDirectory(prefix="bench-decode-") as folder:
            rows = fair.measure(workers, pictures, Path(folder), Bar())
        click.echo(
            f"{f'decode threads: {workers}':<39}{'p50':>7}{'p99':>9}{'flooded p50':>13}{'p99':>9}"
            f"{'one flood':>11}  ms"
        )
        for row in rows:
            met = "met   " if row.flooded_p99_ms <= row.allowed_ms else "MISSED"
            click.echo(
                f"{row.flood:<22}{row.status:<17}{row.alone_p50_ms:>7.1f}{row.alone_p99_ms:>9.1f}"
                f"{row.flooded_p50_ms:>13.1f}{row.flooded_p99_ms:>9.1f}{row.one_flood_ms:>11.1f}"
                f"  {met} p99 <= 2 x p99 alone + one picture of the flood: {row.allowed_ms:.1f}"
            )


def _print_cost(against: str | None, rounds: int, requests: int) -> None:
    from benchmarks.decode.cost import measure
    from spillover.lab.terminal import Bar

    with tempfile.TemporaryDirectory(prefix="bench-decode-") as folder:
        cells = measure(against, (1, 16), rounds, requests, Path(folder), Bar())
    click.echo(f"{'':<12}{'C':>4}{against or '-':>12}{'here':>9}  CPU ms a request")
    for cell in cells:
        old, judged = "-", ""
        if cell.old_ms is not None:
            goal, share = GOALS[cell.size, cell.concurrency], cell.new_ms / cell.old_ms
            old, met = f"{cell.old_ms:.2f}", "met   " if share <= goal else "MISSED"
            judged = f"  {met} share <= {goal:.2f}: {share:.2f}"
        click.echo(f"{cell.size:<12}{cell.concurrency:>4}{old:>12}{cell.new_ms:>9.2f}{judged}")


@click.command("decode-accuracy")
@click.option("--data", type=EXISTING, required=True, help="Labelled pictures, as `lab evaluate` takes them.")
@click.option("--model", type=MODEL, help="The cloud's model folder; EfficientNet-Lite2 unless given.")
@threads_option
def decode_accuracy(data: Path, model: Path | None, threads: int) -> None:
    """Accuracy of a model on scaled decodes beside exact ones, with pictures sent in several sizes.

    Both answers are to the same JPEG. Agreement is that of the answers; `reduced` is the share of the
    pictures that `decode: scaled` decodes at a part of their size, because they are large enough for that.
    """
    from benchmarks.decode.accuracy import compare
    from spillover.common.home import models_home
    from spillover.lab.data.labelled import open_labelled_set
    from spillover.lab.models.prepare.pair import CLOUD_MODEL
    from spillover.lab.terminal import Bar

    rows = compare(model or models_home() / CLOUD_MODEL, open_labelled_set(data), threads, Bar())
    click.echo(f"{'':<30}{'exact':>8}{'scaled':>8}{'agree':>8}{'reduced':>9}")
    for row in rows:
        click.echo(
            f"{row.form:<30}{row.exact:>8.3f}{row.scaled:>8.3f}{row.agreement:>8.3f}{row.reduced:>9.0%}"
        )
