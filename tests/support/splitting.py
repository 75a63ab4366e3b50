"""A tiny convolutional network and its split, made by the real planner, for tests of both sides."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from spillover.lab.data.pictures import ArrayPicture
from spillover.lab.split.plan import SplitOptions, SplitReport, split_model
from spillover.lab.terminal import Silent
from tests.support.models import SIDE, describe_classifier, save_network


def residual_classifier(repository: Path, name: str = "residual", version: str = "1", seed: int = 0) -> Path:
    """Three classes; convolutions with a residual block in the middle. Batch axis free."""
    random = np.random.default_rng(seed)

    def weights(tensor: str, *shape: int) -> onnx.TensorProto:
        scale = np.sqrt(2 / np.prod(shape[1:]))
        return numpy_helper.from_array((random.normal(size=shape) * scale).astype(np.float32), tensor)

    def conv(inputs: list[str], output: str, stride: int = 1) -> onnx.NodeProto:
        return helper.make_node(
            "Conv", inputs, [output], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[stride, stride]
        )

    graph = helper.make_graph(
        [
            conv(["image", "w1"], "c1", stride=2),
            helper.make_node("Relu", ["c1"], ["r1"]),
            conv(["r1", "w2"], "c2"),
            helper.make_node("Relu", ["c2"], ["r2"]),
            helper.make_node("Add", ["r2", "r1"], ["sum"]),
            conv(["sum", "w3"], "c3", stride=2),
            helper.make_node("Relu", ["c3"], ["r3"]),
            helper.make_node("GlobalAveragePool", ["r3"], ["pool"]),
            helper.make_node("Flatten", ["pool"], ["flat"]),
            helper.make_node("Gemm", ["flat", "w4"], ["logits"], transB=1),
        ],
        "residual",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3])],
        [
            weights("w1", 8, 3, 3, 3),
            weights("w2", 8, 8, 3, 3),
            weights("w3", 6, 8, 3, 3),
            weights("w4", 3, 6),
        ],
    )
    folder = save_network(graph, repository / name / version)
    describe_classifier(folder, name, version, std=64.0)
    return folder


def coloured_pictures(count: int = 16, seed: int = 0) -> list[ArrayPicture]:
    """Pictures of one colour with a little noise."""
    random = np.random.default_rng(seed)
    colours = random.integers(0, 255, (count, 1, 1, 3))
    noise = random.integers(-20, 20, (count, 24, 32, 3))
    pixels = np.clip(colours + noise, 0, 255).astype(np.uint8)
    return [ArrayPicture(f"colour {i}", rgb) for i, rgb in enumerate(pixels)]


def split_classifier(folder: Path) -> SplitReport:
    """Split the folder's model behind its residual block and before its last layer.

    The tiny network is not held to much; and its cuts are named, as its times are too short to choose by.
    """
    options = SplitOptions(max_loss=0.1, threads=1, rounds=1, cuts=("sum", "flat"))
    return split_model(folder, coloured_pictures(), options, Silent())
