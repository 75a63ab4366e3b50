"""EfficientNet-Lite as an ONNX graph, built from a state dict.

Sources: M. Tan and Q. Le, "EfficientNet" (ICML 2019), table 1 and eq. 3 for the stages and their scaling; the
EfficientNet-Lite release in github.com/tensorflow/tpu (2020) for what "Lite" changes: no squeeze-and-excite,
ReLU6 for swish, stem and head of fixed width, first and last stage of fixed depth. State dict keys are those
of the PyTorch port (github.com/ml-illustrated/EfficientNet-Lite-PyTorch).

Batch normalisation is folded into the convolution before it. A node and the tensor it writes bear the same
name: `stem/conv`, `blocks.<stage>.<repeat>/{expand,depthwise,project}/conv`, `blocks.<stage>.<repeat>/add`,
`head/conv`, ..., `logits`.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from spillover.common.errors import ModelError
from spillover.common.types import FloatArray
from spillover.lab.models.tfjs.ops.windows import same_padding

StateDict = Mapping[str, npt.NDArray[Any]]

OPSET = 17
IR_VERSION = 8
BATCH_NORM_EPSILON = 1e-3
STEM_CHANNELS = 32
HEAD_CHANNELS = 1280
INPUT_NAME = "image"
OUTPUT_NAME = "logits"


@dataclass(frozen=True, slots=True)
class Stage:
    """A row of the paper's table: `repeats` inverted bottlenecks, the first of which has `stride`."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


BASE_STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


@dataclass(frozen=True, slots=True)
class Scaling:
    """Multipliers of channels and repeats over the base network."""

    width: float
    depth: float


SCALINGS = {
    0: Scaling(1.0, 1.0),
    1: Scaling(1.0, 1.1),
    2: Scaling(1.1, 1.2),
    3: Scaling(1.2, 1.4),
    4: Scaling(1.4, 1.8),
}
"""By the number in the network's name, from Lite0 to Lite4."""


@dataclass(frozen=True, slots=True)
class Block:
    """One inverted bottleneck: expand 1x1, depthwise kxk, project 1x1, and a shortcut where shapes allow."""

    name: str
    key: str
    kernel: int
    stride: int
    expansion: int
    channels_in: int
    channels_out: int


def blocks(scaling: Scaling) -> Iterator[Block]:
    """The bottlenecks of a scaled network in order, with their prefixes in the state dict."""
    index, channels_in = 0, STEM_CHANNELS
    for number, stage in enumerate(BASE_STAGES):
        fixed_depth = number in (0, len(BASE_STAGES) - 1)
        repeats = stage.repeats if fixed_depth else math.ceil(stage.repeats * scaling.depth)
        channels = _round_channels(stage.channels * scaling.width)
        for repeat in range(repeats):
            stride = stage.stride if repeat == 0 else 1
            name, key = f"blocks.{number}.{repeat}", f"_blocks.{index}"
            yield Block(name, key, stage.kernel, stride, stage.expansion, channels_in, channels)
            index, channels_in = index + 1, channels


def build_efficientnet_lite(scaling: Scaling, state: StateDict, size: int) -> onnx.ModelProto:
    """The network for pictures of `size` x `size` pixels.

    Input `image` float32 (batch, 3, size, size), RGB, `(x - 127) / 128`; output `logits` float32
    (batch, classes). The batch axis is dynamic, the spatial shape static.

    Raises:
        ModelError: a tensor is missing from `state` or has another shape.
    """
    graph = _Graph(state, size)
    tensor = graph.conv("stem/conv", INPUT_NAME, "_conv_stem", "_bn0", (STEM_CHANNELS, 3, 3, 3), stride=2)
    tensor = graph.relu6("stem/relu6", tensor)
    for block in blocks(scaling):
        tensor = _add_block(graph, tensor, block)
    last = block.channels_out
    tensor = graph.conv("head/conv", tensor, "_conv_head", "_bn1", (HEAD_CHANNELS, last, 1, 1))
    tensor = graph.relu6("head/relu6", tensor)
    classes = len(graph.tensor("_fc.bias"))
    graph.classify(tensor, classes)
    model = graph.model(size, classes)
    onnx.checker.check_model(model, full_check=True)
    return model


def _add_block(graph: "_Graph", tensor: str, block: Block) -> str:
    shortcut, expanded = tensor, block.channels_in * block.expansion
    if block.expansion != 1:
        shape = (expanded, block.channels_in, 1, 1)
        tensor = graph.conv(
            f"{block.name}/expand/conv", tensor, f"{block.key}._expand_conv", f"{block.key}._bn0", shape
        )
        tensor = graph.relu6(f"{block.name}/expand/relu6", tensor)
    tensor = graph.conv(
        f"{block.name}/depthwise/conv",
        tensor,
        f"{block.key}._depthwise_conv",
        f"{block.key}._bn1",
        (expanded, 1, block.kernel, block.kernel),
        stride=block.stride,
        groups=expanded,
    )
    tensor = graph.relu6(f"{block.name}/depthwise/relu6", tensor)
    shape = (block.channels_out, expanded, 1, 1)
    tensor = graph.conv(
        f"{block.name}/project/conv", tensor, f"{block.key}._project_conv", f"{block.key}._bn2", shape
    )
    if block.stride == 1 and block.channels_in == block.channels_out:
        tensor = graph.node("Add", f"{block.name}/add", [tensor, shortcut])
    return tensor


class _Graph:
    """Nodes and initialisers in the making. `_side` is the width and height of the last tensor."""

    def __init__(self, state: StateDict, size: int) -> None:
        self._state = state
        self._side = size
        self._nodes: list[onnx.NodeProto] = []
        self._initializers = [
            _initializer("relu6/min", np.float32(0)),
            _initializer("relu6/max", np.float32(6)),
        ]

    def tensor(self, key: str, shape: tuple[int, ...] | None = None) -> FloatArray:
        try:
            array = np.asarray(self._state[key], np.float32)
        except KeyError:
            raise ModelError(f"the checkpoint has no tensor {key!r}") from None
        if shape is not None and array.shape != shape:
            raise ModelError(f"tensor {key!r} of the checkpoint has shape {array.shape}, not {shape}")
        return array

    def node(self, kind: str, name: str, inputs: list[str], **attributes: Any) -> str:  # noqa: ANN401 - as onnx has it
        self._nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    def conv(
        self,
        name: str,
        source: str,
        key: str,
        norm: str,
        shape: tuple[int, ...],
        *,
        stride: int = 1,
        groups: int = 1,
    ) -> str:
        """A convolution without bias and the batch normalisation after it, as one convolution."""
        weight, bias = self._folded(key, norm, shape)
        self._initializers += [_initializer(f"{name}/weight", weight), _initializer(f"{name}/bias", bias)]
        before, after, self._side = same_padding(self._side, shape[-1], stride)
        return self.node(
            "Conv",
            name,
            [source, f"{name}/weight", f"{name}/bias"],
            kernel_shape=shape[-2:],
            strides=[stride, stride],
            pads=[before, before, after, after],
            group=groups,
        )

    def relu6(self, name: str, source: str) -> str:
        return self.node("Clip", name, [source, "relu6/min", "relu6/max"])

    def classify(self, source: str, classes: int) -> None:
        pooled = self.node("GlobalAveragePool", "head/pool", [source])
        flat = self.node("Flatten", "head/flatten", [pooled])
        weight, bias = (
            self.tensor("_fc.weight", (classes, HEAD_CHANNELS)),
            self.tensor("_fc.bias", (classes,)),
        )
        self._initializers += [_initializer("logits/weight", weight), _initializer("logits/bias", bias)]
        self.node("Gemm", OUTPUT_NAME, [flat, "logits/weight", "logits/bias"], transB=1)

    def model(self, size: int, classes: int) -> onnx.ModelProto:
        floats = onnx.TensorProto.FLOAT
        image = helper.make_tensor_value_info(INPUT_NAME, floats, ["batch", 3, size, size])
        logits = helper.make_tensor_value_info(OUTPUT_NAME, floats, ["batch", classes])
        graph = helper.make_graph(self._nodes, "efficientnet-lite", [image], [logits], self._initializers)
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(
            graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="spillover"
        )
        return onnx.shape_inference.infer_shapes(model, strict_mode=True)

    def _folded(self, key: str, norm: str, shape: tuple[int, ...]) -> tuple[FloatArray, FloatArray]:
        """`norm(conv(x)) = conv'(x)` with the weights scaled per output channel, computed in float64."""
        channels = shape[:1]
        weight = self.tensor(f"{key}.weight", shape).astype(np.float64)
        gamma, beta = self.tensor(f"{norm}.weight", channels), self.tensor(f"{norm}.bias", channels)
        mean, variance = (self.tensor(f"{norm}.running_{part}", channels) for part in ("mean", "var"))
        scale = gamma / np.sqrt(variance.astype(np.float64) + BATCH_NORM_EPSILON)
        folded = weight * scale.reshape(-1, 1, 1, 1)
        return folded.astype(np.float32), (beta - mean * scale).astype(np.float32)


def _round_channels(channels: float) -> int:
    """To the nearest multiple of 8, but never down by more than a tenth (the release's `round_filters`)."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def _initializer(name: str, array: FloatArray | np.float32) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(array), name)
