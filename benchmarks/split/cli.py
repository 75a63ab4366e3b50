"""`python -m benchmarks split`."""

from pathlib import Path

import click

from spillover.lab.params import EXISTING, FOLDER, MODEL


@click.command("split")
@click.option("--data", type=EXISTING, required=True, help="Labelled pictures, as `lab evaluate` takes them.")
@click.option("--model", type=MODEL, help="The cloud's model folder; EfficientNet-Lite2 unless given.")
@click.option("--edge", type=MODEL, help="The edge's own model folder; EfficientNet-Lite0 INT8 unless given.")
@click.option("--out", type=FOLDER, default=Path("out/split"), show_default=True, help="Where it all goes.")
@click.option(
    "--evaluation", type=click.IntRange(min=10), default=200, show_default=True, help="Pictures judged."
)
@click.option(
    "--frames", type=click.IntRange(min=2), default=60, show_default=True, help="Frames sent a link."
)
@click.option("--int8-head", is_flag=True, help="Quantise the heads; the tails stay float.")
def bench_split(
    data: Path,
    model: Path | None,
    edge: Path | None,
    out: Path,
    evaluation: int,
    frames: int,
    *,
    int8_head: bool,
) -> None:
    """Split inference beside JPEG: bytes against accuracy, and latency over 1, 5, 20 and 100 Mbit/s at 50 ms.

    Splits a copy of the model on some of the pictures, judges JPEG and every cut on others, then sends frames
    to a real server process over shaped links, every form of a frame in turn. Edge and cloud run on this one
    machine with a thread each: a Pi's heads take longer (see docs/measurements/split.md). Figures go to
    bench.json, plots to bench.png; the split copy is kept and used again.
    """
    from benchmarks.split import split_benchmark
    from benchmarks.split.split_report import print_tables, save_plot
    from spillover.common.home import models_home
    from spillover.lab.data.labelled import open_labelled_set
    from spillover.lab.models.prepare.pair import CLOUD_MODEL, EDGE_MODEL
    from spillover.lab.terminal import Bar

    out.mkdir(parents=True, exist_ok=True)
    options = split_benchmark.BenchOptions(evaluation=evaluation, frames=frames, int8_head=int8_head)
    result = split_benchmark.bench_split(
        model or models_home() / CLOUD_MODEL,
        edge or models_home() / EDGE_MODEL,
        open_labelled_set(data),
        out,
        options,
        Bar(),
    )
    (out / "bench.json").write_bytes(split_benchmark.as_json(result))
    save_plot(result, out / "bench.png")
    print_tables(result)
