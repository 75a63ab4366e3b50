"""Parameter types that several commands of the workbench share."""

import os
from pathlib import Path

import click

from common.errors import ModelError
from common.model.locate import find_model_folder


class ModelFolderType(click.Path):
    """A model folder: a path, or the name of a prepared model such as `efficientnet-lite2`."""

    name = "model"

    def convert(
        self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> Path:
        """The folder; fails with what was looked for and where."""
        try:
            return find_model_folder(Path(value))
        except ModelError as error:
            self.fail(str(error), param, ctx)


MODEL = ModelFolderType()
