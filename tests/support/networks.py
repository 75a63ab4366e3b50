"""ONNX files as exporters make them: the shapes of real networks, with outputs that a test chooses."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper


def scripted(
    path: Path,
    size: tuple[int, int],
    content: npt.NDArray[np.float32],
    padding: Sequence[int] = (),
    notes: Mapping[str, str] | None = None,
    channels: int = 3,
) -> Path:
    """A network for pictures of (height, width) that gives `content` (1, ...) whatever it sees.

    `padding` adds so many zeros behind each axis, so that a large output needs no large file.
    """
    padding = padding or [0] * content.ndim
    shape = [have + more for have, more in zip(content.shape, padding, strict=True)]
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["images", "axes"], ["mean"], keepdims=0),
            helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
            helper.make_node("Add", ["content", "nothing"], ["there"]),
            helper.make_node("Pad", ["there", "pads"], ["output0"]),
        ],
        "scripted",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, channels, *size])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, shape)],
        [
            numpy_helper.from_array(np.arange(4), "axes"),
            numpy_helper.from_array(np.zeros((), np.float32), "zero"),
            numpy_helper.from_array(content.astype(np.float32), "content"),
            numpy_helper.from_array(np.array([0] * content.ndim + list(padding), np.int64), "pads"),
        ],
    )
    return save(graph, path, notes)


def channel_means(
    path: Path,
    shape: Sequence[int | str],
    element: int = TensorProto.FLOAT,
    notes: Mapping[str, str] | None = None,
) -> Path:
    """A classifier of as many classes as channels: the logits are the means of the input's channels.

    `shape` is that of the input, (batch, channels, height, width) or channels last.
    """
    last = shape[3] in {1, 3}
    axes = [1, 2] if last else [2, 3]
    classes = shape[3] if last else shape[1]
    nodes = [
        helper.make_node("Cast", ["image"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["numbers", "axes"], ["logits"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "means",
        [helper.make_tensor_value_info("image", element, list(shape))],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [shape[0], classes])],
        [numpy_helper.from_array(np.array(axes), "axes")],
    )
    return save(graph, path, notes)


def small_yolox(path: Path, side: int = 416, classes: int = 80) -> Path:
    """A detector with YOLOX's output over real convolutions, which can be quantised; it finds nothing."""
    random = np.random.default_rng(0)
    constants, nodes, parts, source = [], [], [], "images"

    def convolution(name: str, source: str, wanted: tuple[int, ...], stride: int, pad: int) -> str:
        constants.append(
            numpy_helper.from_array(random.normal(0, 0.05, wanted).astype(np.float32), f"{name}.w")
        )
        node = helper.make_node(
            "Conv", [source, f"{name}.w"], [name], name, strides=[stride] * 2, pads=[pad] * 4
        )
        nodes.append(node)
        return name

    for name, channels in (("stem", 3), ("middle", 8)):
        source = convolution(name, source, (8, channels, 3, 3), 2 if name == "stem" else 1, 1)
        nodes.append(helper.make_node("Relu", [source], [f"{name}.relu"], f"{name}.relu"))
        source = f"{name}.relu"
    constants.append(numpy_helper.from_array(np.array([0, 5 + classes, -1]), "flat"))
    constants.append(numpy_helper.from_array(np.array(0.01, np.float32), "little"))
    for stride in (8, 16, 32):
        half = stride // 2
        level = convolution(f"head{stride}", source, (5 + classes, 8, half, half), half, 0)
        nodes.append(helper.make_node("Reshape", [level, "flat"], [f"rows{stride}"]))
        parts.append(f"rows{stride}")
    nodes += [
        helper.make_node("Concat", parts, ["planes"], axis=2),
        helper.make_node("Transpose", ["planes"], ["rows"], perm=[0, 2, 1]),
        helper.make_node("Mul", ["rows", "little"], ["output"]),
    ]
    cells = sum((side // stride) ** 2 for stride in (8, 16, 32))
    graph = helper.make_graph(
        nodes,
        "small-yolox",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, side, side])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, cells, 5 + classes])],
        constants,
    )
    return save(graph, path)


def save(graph: onnx.GraphProto, path: Path, notes: Mapping[str, str] | None = None) -> Path:
    """Check it and write it to `path` with an exporter's notes; gives `path`."""
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, dict(notes or {}))
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path
