"""`spillover lab early-exit`."""

from pathlib import Path

import click

from spillover.lab.params import EXISTING, FOLDER, MODEL


@click.command()
@click.argument("model", type=MODEL)
@click.option("--cut", required=True, help="The cut behind which the exit is, as split.yaml names it.")
@click.option("--out", type=FOLDER, required=True, help="The model folder to write.")
@click.option("--pictures", type=EXISTING, help="Folder or labelled set to fit on.")
@click.option("--count", type=click.IntRange(min=16), default=256, show_default=True, help="Pictures used.")
@click.option(
    "--keep",
    type=click.FloatRange(0, 1),
    default=0.8,
    show_default=True,
    help="Take the quickest exit that keeps this share of the answers.",
)
def early_exit(model: Path, cut: str, out: Path, pictures: Path | None, count: int, keep: float) -> None:
    """Give a split MODEL an early exit: the edge answers from the features that it may send anyway.

    One convolution, fitted by least squares to the outputs of the skipped layers, leads from the cut to a
    later tensor; from there the network's own layers go on. Several such tensors are tried, fitted on half of
    the pictures and judged on the other half. No labels are needed. The folder that is written serves as the
    edge's own model; where uplink.split names the same cut, the backbone runs once for both.
    """
    from spillover.lab.models.calibration_pictures import calibration_pictures
    from spillover.lab.split.early_exit.exits import build_early_exit, print_report
    from spillover.lab.terminal import Bar

    report = build_early_exit(model, cut, out, calibration_pictures(pictures, count), keep, Bar())
    print_report(report)
