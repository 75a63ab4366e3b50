"""`spillover lab early-exit`."""

from pathlib import Path

import click

from spillover.lab.params import MODEL

EXISTING = click.Path(exists=True, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)


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
    """Give a split MODEL an early exit, so that the edge answers from the features which it may send anyway.

    One convolution, fitted by least squares to what the skipped layers would have said, leads from the cut to
    a later tensor; from there on the network's own layers answer. Several such tensors are tried on half of
    the pictures and judged on the other half; so is, for a classifier, a linear layer straight to the
    classes, which needs many pictures for each class. No labels are needed. The model folder
    that is written serves as the edge's own model; with uplink.split naming the same cut, the backbone is run
    once.
    """
    from spillover.lab.progress import Bar
    from spillover.lab.split.early_exit.build import build_early_exit
    from spillover.lab.split.early_exit.report import print_report
    from spillover.lab.split.pictures import calibration_pictures

    report = build_early_exit(model, cut, out, calibration_pictures(pictures, count), keep, Bar())
    print_report(report)
