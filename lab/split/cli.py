"""`spillover lab split`."""

from pathlib import Path
from typing import Any

import click

from spillover.lab.params import EXISTING, MODEL, plot_option, threads_option


@click.command()
@click.argument("model", type=MODEL)
@click.option("--pictures", type=EXISTING, help="Folder or labelled set to calibrate on.")
@click.option("--clip", type=EXISTING, help="Video of a camera: code features against those before.")
@click.option("--count", type=click.IntRange(min=8), default=64, show_default=True, help="Pictures used.")
@click.option(
    "--max-loss",
    type=click.FloatRange(min=0, max=1),
    help="Share of the answers that coding may cost; 0.01 for classifiers, 0.05 for detectors.",
)
@click.option(
    "--max-tensors", type=click.IntRange(1, 6), default=3, show_default=True, help="Tensors in a cut."
)
@click.option("--int8-head", is_flag=True, help="Quantise the heads; the tails stay float.")
@threads_option
@click.option("--cut", "cuts", multiple=True, help="Make this cut alone, by its name; may be repeated.")
@click.option("--device", default="", help="What to call this device in split.yaml.")
@plot_option
def split(model: Path, pictures: Path | None, count: int, plot: Path | None, **settings: Any) -> None:  # noqa: ANN401 - SplitOptions types them
    """Find where to cut MODEL (a model folder, its model.onnx, or a prepared name) between edge and cloud.

    Every small set of tensors that separates input from outputs is a cut. Those with little work before them
    and few elements are cut, checked against the whole network, coded and timed as wholes on this device. The
    best, at most 8, go into split.yaml beside the model, with their heads and tails in split/: those that
    take fewer bytes than a JPEG, unless none does.

    How a cut's features are coded is chosen on the calibration pictures: the fewest bytes for which the
    answers stay those of the whole network but for --max-loss. Without --pictures, photographs of installed
    packages are used; pictures like those the camera will see are better.

    Features can also be sent as changes to those that the cloud has. Name a --clip of the camera: then the
    coding is chosen for the fewest bytes of such changes, on the clip's first half, and judged on its second;
    the report has both. Frames of the first half are then the calibration pictures too, unless --pictures are
    named. Without a clip shifted pictures take its place, and the coding is chosen for features that are sent
    alone.
    """
    from spillover.lab.models.calibration_pictures import calibration_pictures
    from spillover.lab.split.moving import clip_pictures
    from spillover.lab.split.plan import SplitOptions, split_model
    from spillover.lab.split.split_report import print_table, save_plot
    from spillover.lab.terminal import Bar

    options = SplitOptions(**settings)
    if options.clip is None or pictures is not None:
        calibrated_on = calibration_pictures(pictures, count)
    else:
        calibrated_on = clip_pictures(options.clip, count)
    report = split_model(model, calibrated_on, options, Bar())
    print_table(report)
    if plot is not None:
        save_plot(report, plot)
