"""`python -m benchmarks resize`."""

from pathlib import Path

import click

from spillover.lab.params import EXISTING, MODEL, threads_option


@click.command("resize")
@click.option("--data", type=EXISTING, required=True, help="Labelled pictures, as `lab evaluate` takes them.")
@click.option("--model", type=MODEL, required=True, help="A model whose interpolation is linear.")
@threads_option
def bench_resize(data: Path, model: Path, threads: int) -> None:
    """What resizing bit for bit alike on every processor costs, and what it does to the answers.

    OpenCV's INTER_LINEAR gives other pixels on x86-64 than on aarch64; INTER_LINEAR_EXACT, which
    `preprocess` uses, does not. Either answers each picture in turn; the table has a line for each half of
    the pictures. `added` is the median of what a picture takes longer, network included.
    """
    from benchmarks.resize.filters import compare
    from spillover.lab.data.labelled import open_labelled_set
    from spillover.lab.terminal import Bar

    rows = compare(model, open_labelled_set(data), threads, Bar())
    click.echo(
        f"{'':<6}{'exact':>8}{'linear':>8}{'agree':>8}{'exact ms':>10}{'linear ms':>11}{'added ms':>10}"
    )
    for row in rows:
        click.echo(
            f"{row.half:<6}{row.exact:>8.3f}{row.linear:>8.3f}{row.agreement:>8.3f}"
            f"{row.exact_ms:>10.2f}{row.linear_ms:>11.2f}{row.added_ms:>10.2f}"
        )
