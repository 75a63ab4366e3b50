"""An ONNX graph in the making, with the layout of every tensor.

TensorFlow's pictures have their channels last, ONNX's convolutions want them second. A `Value` holds in which
order the axes of the ONNX tensor are, so that a TensorFlow `Transpose` costs nothing, and a tensor is moved
only where an operator needs another order.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from spillover.common.errors import ModelError
from spillover.lab.models.tfjs.constants import Constants
from spillover.lab.models.tfjs.files import Array, Node, TfjsModel

OPSET = 17
IR_VERSION = 8

Layout = tuple[int, ...]
CHANNELS_FIRST: Layout = (0, 3, 1, 2)


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor: axis i of ONNX's `name` is TensorFlow's axis `layout[i]`; `shape` is TensorFlow's."""

    name: str
    layout: Layout
    shape: tuple[int, ...]

    @property
    def onnx_shape(self) -> tuple[int, ...]:
        """The shape of the ONNX tensor, for one picture."""
        return tuple(self.shape[axis] for axis in self.layout)

    def onnx_axis(self, axis: int) -> int:
        """Where ONNX has TensorFlow's `axis`, which may count from the end."""
        return self.layout.index(axis % len(self.layout))

    def transposed(self, order: Sequence[int]) -> "Value":
        """TensorFlow's `Transpose`: axis i of the result is axis `order[i]`."""
        where = list(order)
        layout = tuple(where.index(axis) for axis in self.layout)
        return replace(self, layout=layout, shape=tuple(self.shape[axis] for axis in where))


def plain(rank: int) -> Layout:
    """The layout of a tensor whose axes are in TensorFlow's order."""
    return tuple(range(rank))


class Graph:
    """Nodes and initialisers so far, and the values of TensorFlow's nodes.

    `resized`: by how much the input is larger than the one whose sizes the file holds as constants.
    """

    def __init__(self, model: TfjsModel, resized: float = 1.0) -> None:
        self.resized = resized
        self.constants = Constants(model)
        self.values: dict[str, Value] = {}
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, Array] = {}
        self._named: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self.margins: dict[str, tuple[str, Array]] = {}
        """By name, tensors padded with what a maximum ignores: what was padded, and how much on each axis."""
        self.activations: dict[str, tuple[str, Callable[[str], str]]] = {}
        """By name, results of a function that never falls: what it was applied to, and what applies it."""

    def feed(self, source: str, name: str, shape: Sequence[int], layout: Layout) -> None:
        """Make TensorFlow's `source`, of this shape, the input `name`; its batch axis is free."""
        value = Value(name, layout, tuple(shape))
        dims = [
            "batch" if axis == 0 else length for axis, length in zip(layout, value.onnx_shape, strict=True)
        ]
        self._inputs.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, dims))
        self.values[source] = value

    def value(self, name: str) -> Value:
        """The value of a TensorFlow tensor that is no constant. Raises ModelError."""
        try:
            return self.values[name.removesuffix(":0")]
        except KeyError:
            raise ModelError(
                f"{name} is a constant where a tensor is expected, or has no such output"
            ) from None

    def known(self, node: Node, index: int) -> Array:
        """Input `index` of a node, which must be a constant. Raises ModelError."""
        value = self.constants.value(node.inputs[index]) if index < len(node.inputs) else None
        if value is None:
            raise ModelError(f"node {node.name} ({node.op}): input {index} is not a constant")
        return value

    def in_layout(self, value: Value, layout: Layout) -> str:
        """The ONNX tensor with `value` in this layout; moved where it lies otherwise."""
        if value.layout == layout:
            return value.name
        order = [value.layout.index(axis) for axis in layout]
        return self.emit("Transpose", [value.name], perm=order)[0]

    def constant(self, array: Array) -> str:
        """The initialiser with this array; equal ones are kept once."""
        array = np.ascontiguousarray(array)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._named:
            name = self._named[key] = f"constant_{len(self._named)}"
            self._initializers[name] = array
        return self._named[key]

    def emit(self, kind: str, inputs: Sequence[str], outputs: int = 1, **attributes: Any) -> list[str]:  # noqa: ANN401 - as onnx has it
        """Add a node; gives the names of its outputs, which begin with its own."""
        name = f"{kind.lower()}_{len(self._nodes)}"
        names = [name, *(f"{name}_{number}" for number in range(1, outputs))]
        self._nodes.append(helper.make_node(kind, list(inputs), names, name, **attributes))
        return names

    def finished(self, outputs: Sequence[tuple[str, str]], title: str) -> onnx.ModelProto:
        """The network; `outputs` are TensorFlow's names and the names to give them, in TensorFlow's axes."""
        described = []
        for source, name in outputs:
            value = self.value(source)
            self._nodes.append(
                helper.make_node("Identity", [self.in_layout(value, plain(len(value.shape)))], [name], name)
            )
            shape: list[str | int | None] = ["batch", *value.shape[1:]]
            described.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
        nodes, used = self._live([name for _, name in outputs])
        constants = [
            numpy_helper.from_array(array, name) for name, array in self._initializers.items() if name in used
        ]
        graph = helper.make_graph(nodes, title, self._inputs, described, constants)
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(
            graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="spillover"
        )
        onnx.checker.check_model(model, full_check=True)
        return model

    def _live(self, outputs: Sequence[str]) -> tuple[list[onnx.NodeProto], set[str]]:
        """The nodes that the outputs need, in order, and the names of all that these take."""
        used, live = set(outputs), []
        for node in reversed(self._nodes):
            if used.intersection(node.output):
                used.update(node.input)
                live.append(node)
        return live[::-1], used
