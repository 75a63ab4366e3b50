"""Quantises a model folder into a new model folder, and compares the two."""

from dataclasses import dataclass
from pathlib import Path

import msgspec

from spillover.common.errors import ConfigError, ModelError
from spillover.common.model.manifest import MODEL_FILE, ModelFolder, open_model_folder
from spillover.lab.data.labelled import LabelledSet
from spillover.lab.data.pictures import folder_pictures
from spillover.lab.models.folder import building, finish, made_here
from spillover.lab.models.quantize.comparison import Comparison, compare
from spillover.lab.models.quantize.layers import is_quantized
from spillover.lab.models.quantize.recipe import Recipe
from spillover.lab.models.quantize.static import Quantized, quantize_onnx
from spillover.lab.pairs.evaluate.classes import judging
from spillover.lab.terminal import Progress


@dataclass(frozen=True, slots=True)
class Outcome:
    """The new folder, its quantisation, and the comparison with the float model."""

    folder: ModelFolder
    quantized: Quantized
    comparison: Comparison


def default_target(source: Path) -> Path:
    """Beside the source's name folder: `models/net/1` becomes `models/net-int8/1`."""
    source = source.resolve()
    return source.parent.with_name(f"{source.parent.name}-int8") / source.name


def quantize_folder(
    source: Path,
    target: Path,
    calibration: Path,
    recipe: Recipe,
    labelled: LabelledSet | None,
    progress: Progress,
    *,
    force: bool = False,
) -> Outcome:
    """Write `target` from the float model folder `source`, then measure both.

    Raises:
        ConfigError: `target` exists and `force` is not set, or a pattern to exclude is wrong.
        ModelError: `source` is no model folder, is quantised already or cannot be, or does another task than
            the labels judge.
        SourceError: a picture cannot be read, or the labels are not of the model's classes.
    """
    opened = open_model_folder(source)
    if target.exists() and not force:
        raise ConfigError(f"{target}: exists already; --force replaces it")
    if labelled is not None:
        labelled = judging(labelled, source)
    pictures = folder_pictures(calibration, recipe.max_pictures)
    if is_quantized(opened.onnx_path):
        raise ModelError(f"{source}: is quantised already; name the float model")
    with building(target) as folder:
        quantized = quantize_onnx(
            opened.onnx_path, folder / MODEL_FILE, opened.manifest, recipe, pictures, progress
        )
        name = f"{opened.manifest.name}-int8"
        description = f"{opened.manifest.description}, static INT8".removeprefix(", ")
        finish(
            folder,
            msgspec.structs.replace(opened.manifest, name=name, description=description, made_on=made_here()),
            opened.labels,
        )
        (folder / "recipe.json").write_bytes(msgspec.json.format(msgspec.json.encode(recipe)) + b"\n")
    made = open_model_folder(target)
    return Outcome(made, quantized, compare(opened, made, pictures, labelled, progress))
