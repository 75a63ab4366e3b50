"""Parameter types and options that several commands share."""

import os
from pathlib import Path

import click

from spillover.common.errors import ConfigError, ModelError
from spillover.common.model.locate import find_model_folder


class ModelFolderType(click.Path):
    """A model folder: its path, that of a file in it, or a prepared model's name as `efficientnet-lite2`."""

    name = "model"

    def convert(
        self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> Path:
        """The folder; fails with the names and places that were tried."""
        path = Path(value)
        try:
            return find_model_folder(path.parent if path.is_file() else path)
        except ModelError as error:
            self.fail(str(error), param, ctx)


class OutputFileType(click.Path):
    """A file to write, checked before the work begins whose outcome it will hold.

    Args:
        suffixes: what the file's name may end with; none allows any.
    """

    name = "file"

    def __init__(self, *suffixes: str) -> None:
        super().__init__(dir_okay=False, path_type=Path)
        self._suffixes = suffixes

    def convert(
        self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> Path:
        """The path; fails on another suffix. Raises ConfigError where nothing can be written."""
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        if self._suffixes and path.suffix.lower() not in self._suffixes:
            self.fail(f"{path}: must end with {', '.join(self._suffixes)}", param, ctx)
        place = (
            path if path.exists() else next(parent for parent in path.absolute().parents if parent.exists())
        )
        if not os.access(place, os.W_OK) or not (place == path or place.is_dir()):
            raise ConfigError(f"{path}: cannot be written")
        return path


class FiguresType(click.ParamType[tuple[float, ...]]):
    """Numbers with commas between them, as `0.01,0.05`, each from `least` to `most`; at most 20."""

    name = "numbers"

    def __init__(self, least: float, most: float) -> None:
        self._least, self._most = least, most

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """The numbers, rising, each once."""
        if isinstance(value, tuple):
            return value
        try:
            numbers = sorted({float(word) for word in str(value).split(",")})
        except ValueError:
            self.fail(f"{value!r}: must be numbers with commas between them", param, ctx)
        if not all(self._least <= number <= self._most for number in numbers) or len(numbers) > 20:
            self.fail(
                f"{value!r}: must be at most 20 numbers from {self._least:g} to {self._most:g}", param, ctx
            )
        return tuple(numbers)


MODEL = ModelFolderType()
OUTPUT = OutputFileType()
PLOT = OutputFileType(".png", ".svg", ".pdf")
EXISTING = click.Path(exists=True, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)

edge_option = click.option(
    "--edge", type=MODEL, required=True, help="Model of the edge: a folder or a prepared name."
)
cloud_option = click.option(
    "--cloud", type=MODEL, required=True, help="Model of the cloud: a folder or a prepared name."
)
threads_option = click.option(
    "--threads", type=click.IntRange(min=0), default=0, help="Threads of a run; 0: all cores."
)
plot_option = click.option("--plot", type=PLOT, help="Where the plot goes (.png, .svg or .pdf).")
