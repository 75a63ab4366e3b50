"""`python -m benchmarks decode`, `decode-streams` and `decode-accuracy`."""

import tempfile
from pathlib import Path

import click

from spillover.lab.params import EXISTING, MODEL, threads_option


@click.command("decode")
@click.option(
    "--pictures", type=click.IntRange(min=10), default=100, show_default=True, help="Of the good caller."
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    multiple=True,
    default=(1, 2),
    show_default=True,
    help="Decode threads of the server; may be repeated.",
)
def bench_decode(pictures: int, workers: tuple[int, ...]) -> None:
    """How long one caller's pictures take while another floods the server with large or slow ones.

    The flood, a process of its own, keeps 24 pictures of 25 million pixels in flight; the good caller sends
    up to 20 of 640x480 a second. With a single decode thread each of these waits for one of the flood, with
    more for none. What a picture costs the server is among the jobs of `python -m benchmarks against`.
    """
    from benchmarks.decode.fairness import measure
    from spillover.lab.terminal import Bar

    for count in workers:
        with tempfile.TemporaryDirectory(prefix="bench-decode-") as folder:
            rows = measure(count, pictures, Path(folder), Bar())
        click.echo(
            f"{f'decode threads: {count}':<41}{'p50':>7}{'p99':>9}{'flooded p50':>13}{'p99':>9}"
            f"{'one flood':>11}  ms"
        )
        for row in rows:
            met = "met   " if row.flooded_p99_ms <= row.allowed_ms else "MISSED"
            click.echo(
                f"{row.flood:<22}{row.status:<19}{row.alone_p50_ms:>7.1f}{row.alone_p99_ms:>9.1f}"
                f"{row.flooded_p50_ms:>13.1f}{row.flooded_p99_ms:>9.1f}{row.one_flood_ms:>11.1f}"
                f"  {met} p99 <= 2 x p99 alone + one picture of the flood: {row.allowed_ms:.1f}"
            )


@click.command("decode-streams")
@click.option("--clip", type=EXISTING, required=True, help="A video; every eighth frame is taken.")
@click.option("--frames", type=click.IntRange(min=3), default=90, show_default=True, help="At most so many.")
def decode_streams(clip: Path, frames: int) -> None:
    """What a stream of video costs a server, in processor time beside JPEGs and in memory.

    Times are one thread's, from the payload to the input of a network of 416x416. Memory is that of many
    streams in a process of their own, rings full: of soft pictures, and of the longest packets.
    """
    from benchmarks.decode.streams import SIZES, costs, memory

    rows = costs(clip, frames)
    click.echo(f"{clip.name:<44}{'bytes':>9}{'to pixels':>11}{'to input':>10}  CPU ms")
    for row in rows:
        figures = f"{row.payload_bytes:>9.0f}{row.pixels_ms:>11.2f}{row.input_ms:>10.2f}"
        click.echo(f"{row.form:<44}{figures}")
    for row, what in (
        (rows[1], "a DCT-scaled JPEG that gives as many pixels"),
        (rows[2], "a JPEG of its size"),
    ):
        met = "met   " if rows[0].input_ms < row.input_ms else "MISSED"
        click.echo(f"{met} a packet takes less than {what}: {rows[0].input_ms:.2f} of {row.input_ms:.2f} ms")
    click.echo(f"{'MB a stream':<18}{'held':>6}{'soft':>8}{'longest':>9}{'charged':>9}")
    for sides in SIZES:
        one = memory(sides)
        met = "met" if max(one.soft_mb, one.longest_mb) <= one.charged_mb else "MISSED"
        figures = f"{one.soft_mb:>8.2f}{one.longest_mb:>9.2f}{one.charged_mb:>9.2f}"
        click.echo(f"{f'{sides[0]}x{sides[1]}':<18}{one.held:>6}{figures}  {met}")


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
