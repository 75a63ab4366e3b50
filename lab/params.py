"""Parameter types that several commands of the workbench share."""

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
        """The folder; fails with what was looked for and where."""
        path = Path(value)
        try:
            return find_model_folder(path.parent if path.is_file() else path)
        except ModelError as error:
            self.fail(str(error), param, ctx)


class OutputFileType(click.Path):
    """A file that can be written, found out before the work whose outcome it will hold.

    Args:
        suffixes: those that the file's name may end with; any, when there are none.
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


MODEL = ModelFolderType()
OUTPUT = OutputFileType()
PLOT = OutputFileType(".png", ".svg", ".pdf")
