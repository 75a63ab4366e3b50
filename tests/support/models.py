"""Tiny real ONNX models, built on the spot, so that tests need no data."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from spillover.common.model.manifest import (
    MODEL_FILE,
    Input,
    Manifest,
    Output,
    file_sha256,
    write_manifest,
)
from spillover.common.tasks.classification import CLASSIFICATION
from spillover.common.tasks.detection import DETECTION

SIDE = 16
"""Height and width that the tiny vision models take."""


def colour_classifier(repository: Path, name: str = "colour", version: str = "1", gain: float = 8.0) -> Path:
    """A classifier of three classes: 0 for a red picture, 1 green, 2 blue. Batch axis free."""
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["image"], ["mean"]),
            helper.make_node("Flatten", ["mean"], ["flat"]),
            helper.make_node("Mul", ["flat", "gain"], ["logits"]),
        ],
        "colour",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(np.array(gain, np.float32), "gain")],
    )
    folder = save_network(graph, repository / name / version)
    describe_classifier(folder, name, version)
    return folder


def fragile_classifier(repository: Path, failing: str, name: str = "fragile", version: str = "1") -> Path:
    """As `colour_classifier`, but it fails on red: by `index` out of range, or for want of `memory`."""
    fail = {
        # The lookup's second row is its last; red asks for the third.
        "index": [helper.make_node("Gather", ["table", "twice_red"], ["nothing"])],
        # Red asks for 2 ** 47 floats, more than there are addresses.
        "memory": [
            helper.make_node("Mul", ["twice_red", "huge"], ["shape"]),
            helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
            helper.make_node("ReduceSum", ["zeros"], ["nothing"], keepdims=0),
        ],
    }[failing]
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["image"], ["mean"]),
            helper.make_node("Flatten", ["mean"], ["flat"]),
            helper.make_node("Gather", ["flat", "first"], ["red"], axis=1),
            helper.make_node("Reshape", ["red", "one"], ["reds"]),
            helper.make_node("Mul", ["reds", "two"], ["scaled"]),
            helper.make_node("Cast", ["scaled"], ["twice_red"], to=TensorProto.INT64),
            *fail,
            helper.make_node("Add", ["flat", "nothing"], ["logits"]),
        ],
        "fragile",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 3])],
        [
            numpy_helper.from_array(np.array(np.int64(0)), "first"),
            numpy_helper.from_array(np.array([1], np.int64), "one"),
            numpy_helper.from_array(np.array(np.float32(2.0)), "two"),
            numpy_helper.from_array(np.zeros(2, np.float32), "table"),
            numpy_helper.from_array(np.array(np.int64(2**46)), "huge"),
        ],
    )
    folder = save_network(graph, repository / name / version)
    describe_classifier(folder, name, version)
    return folder


def endless_classifier(repository: Path, name: str = "endless", version: str = "1") -> Path:
    """As `colour_classifier`, but on red it runs a loop of 2 ** 62 rounds, inside ONNX Runtime."""
    flag = helper.make_tensor_value_info("go_on", TensorProto.BOOL, [])
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["goes_on"]),
            helper.make_node("Identity", ["before"], ["after"]),
        ],
        "round",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            flag,
            helper.make_tensor_value_info("before", TensorProto.FLOAT, [1, 3]),
        ],
        [
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, [1, 3]),
        ],
    )
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["image"], ["mean"]),
            helper.make_node("Flatten", ["mean"], ["flat"]),
            helper.make_node("Gather", ["flat", "first"], ["red"], axis=1),
            helper.make_node("Squeeze", ["red"], ["share"]),
            helper.make_node("Mul", ["share", "many"], ["times"]),
            helper.make_node("Cast", ["times"], ["rounds"], to=TensorProto.INT64),
            helper.make_node("Loop", ["rounds", "", "flat"], ["logits"], body=body),
        ],
        "endless",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 3])],
        [
            numpy_helper.from_array(np.array(0, np.int64), "first"),
            numpy_helper.from_array(np.array(2.0**62, np.float32), "many"),
        ],
    )
    folder = save_network(graph, repository / name / version)
    describe_classifier(folder, name, version)
    return folder


def centre_detector(
    repository: Path, name: str = "centre", version: str = "1", beside: Sequence[float] = ()
) -> Path:
    """A detector of one box, the middle quarter, as sure as the picture is bright. Batch fixed to 1.

    `beside` is a second box that it always sees: x and y of its middle, width, height (shares), confidence.
    """
    second = np.array(beside, np.float32).reshape(-1, 5) * np.array([SIDE] * 4 + [1], np.float32)
    boxes = {"beside": second.reshape(1, 5, 1)} if beside else {}
    box = np.array([SIDE / 2, SIDE / 2, SIDE / 2, SIDE / 2], np.float32).reshape(1, 4, 1)
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["image", "axes"], ["mean"], keepdims=0),
            helper.make_node("Reshape", ["mean", "shape"], ["score"]),
            helper.make_node("Concat", ["box", "score"], ["rows"], axis=1),
            helper.make_node("Concat", ["rows", *boxes], ["found"], axis=2),
        ],
        "centre",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("found", TensorProto.FLOAT, [1, 5, 1 + len(boxes)])],
        [
            numpy_helper.from_array(np.array([1, 2, 3], np.int64), "axes"),
            numpy_helper.from_array(np.array([1, 1, 1], np.int64), "shape"),
            numpy_helper.from_array(box, "box"),
            *(numpy_helper.from_array(value, name) for name, value in boxes.items()),
        ],
    )
    return _save_detector(graph, repository / name / version, Output(decoder="yolov8"))


def _save_detector(
    graph: onnx.GraphProto, folder: Path, output: Output, side: int = SIDE, labels: str = ""
) -> Path:
    """The model folder NAME/VERSION of a detector of pictures of `side` pixels."""
    save_network(graph, folder)
    write_manifest(
        folder,
        Manifest(
            name=folder.parent.name,
            version=folder.name,
            task=DETECTION.name,
            sha256=file_sha256(folder / MODEL_FILE),
            input=Input(height=side, width=side, std=(255.0, 255.0, 255.0)),
            output=output,
            labels=labels,
        ),
    )
    return folder


def bright_detector(
    repository: Path,
    name: str,
    version: str = "1",
    *,
    box: Sequence[float] = (0.25, 0.25, 0.75, 0.75),
    gain: float = 1.0,
    side: int = SIDE,
    labels: Sequence[str] = (),
) -> Path:
    """A detector of one box, as sure as the picture is bright, times `gain`. Batch axis free.

    `box` is left, top, right, bottom in shares. It takes pictures of `side` pixels, stretched.
    """
    left, top, right, bottom = (side * share for share in box)
    place = np.array([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top], np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["image", "axes"], ["mean"], keepdims=0),
            helper.make_node("Reshape", ["mean", "rows"], ["bright"]),
            helper.make_node("Mul", ["bright", "gain"], ["score"]),
            helper.make_node("Mul", ["score", "zero"], ["nothing"]),
            helper.make_node("Add", ["nothing", "box"], ["boxes"]),
            helper.make_node("Concat", ["boxes", "score"], ["found"], axis=1),
        ],
        "bright",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, side, side])],
        [helper.make_tensor_value_info("found", TensorProto.FLOAT, ["N", 5, 1])],
        [
            numpy_helper.from_array(np.array([1, 2, 3], np.int64), "axes"),
            numpy_helper.from_array(np.array([-1, 1, 1], np.int64), "rows"),
            numpy_helper.from_array(np.array(gain, np.float32), "gain"),
            numpy_helper.from_array(np.zeros((1, 1, 1), np.float32), "zero"),
            numpy_helper.from_array(place.reshape(1, 4, 1), "box"),
        ],
    )
    output = Output(decoder="yolov8", confidence_threshold=0.01)
    folder = repository / name / version
    if labels:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "labels.txt").write_text("".join(f"{label}\n" for label in labels))
    return _save_detector(graph, folder, output, side, "labels.txt" if labels else "")


def fuse(repository: Path, *members: Path, name: str = "fused", version: str = "1", **output: float) -> Path:
    """A fused model of copies of these folders, which are called by their models' names."""
    folder = repository / name / version
    for member in members:
        shutil.copytree(member, folder / member.parent.name)
    write_manifest(
        folder,
        Manifest(
            name=name,
            version=version,
            task=DETECTION.name,
            members=tuple(member.parent.name for member in members),
            output=Output(decoder="weighted_boxes", **output),  # type: ignore[arg-type]
        ),
    )
    return folder


def identity(
    repository: Path,
    name: str = "identity",
    version: str = "1",
    element: int = TensorProto.FLOAT,
    width: int = 4,
) -> Path:
    """Tensors in, the same tensors out: INPUT0 (N, width) -> OUTPUT0. No manifest."""
    graph = helper.make_graph(
        [helper.make_node("Identity", ["INPUT0"], ["OUTPUT0"])],
        "identity",
        [helper.make_tensor_value_info("INPUT0", element, ["N", width])],
        [helper.make_tensor_value_info("OUTPUT0", element, ["N", width])],
    )
    return save_network(graph, repository / name / version)


def lookup(repository: Path, name: str = "lookup", version: str = "1") -> Path:
    """INPUT0 (N, 4) numbers of a table's eight entries -> OUTPUT0. A number outside of it fails the run."""
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["INPUT0"], ["indices"], to=TensorProto.INT64),
            helper.make_node("Gather", ["table", "indices"], ["OUTPUT0"]),
        ],
        "lookup",
        [helper.make_tensor_value_info("INPUT0", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("OUTPUT0", TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(np.arange(8, dtype=np.float32), "table")],
    )
    return save_network(graph, repository / name / version)


def save_network(graph: onnx.GraphProto, folder: Path) -> Path:
    """Check it and write it to `folder`, made if need be; gives `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, folder / MODEL_FILE)
    return folder


def describe_classifier(folder: Path, name: str, version: str, std: float = 255.0) -> None:
    """Write the manifest of a classifier whose input is `SIDE` pixels square, divided by `std`."""
    manifest = Manifest(
        name=name,
        version=version,
        task=CLASSIFICATION.name,
        sha256=file_sha256(folder / MODEL_FILE),
        input=Input(height=SIDE, width=SIDE, std=(std, std, std)),
        output=Output(decoder="logits"),
    )
    write_manifest(folder, manifest)
