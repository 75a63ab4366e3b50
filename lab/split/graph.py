"""The activations of an ONNX graph: tensors that depend on the input, and the nodes that compute them."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import or_
from pathlib import Path

import onnx

from spillover.common.errors import ModelError

# Operators that cost next to nothing beside a convolution: before one that does not grow the tensor, a cut is
# never better than behind it.
CHEAP = frozenset(
    {
        *("Relu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "LeakyRelu", "PRelu", "Elu", "Tanh", "Mul"),
        *("Add", "BatchNormalization", "MaxPool", "AveragePool", "GlobalAveragePool", "ReduceMean"),
        *("Flatten", "Reshape", "Transpose", "Squeeze", "Identity", "Dropout", "Softmax"),
    }
)
_WEIGHTED = frozenset({"Conv", "Gemm", "MatMul", "ConvTranspose"})


@dataclass(frozen=True, slots=True)
class Tensor:
    """One activation: which tensors it is computed from, how, and how large it is for one picture.

    `macs` are the multiply-adds of the node that makes it (of all its outputs). Only tensors with
    `is_float` may cross a cut.
    """

    name: str
    sources: tuple[int, ...]
    operator: str
    shape: tuple[int, ...]
    macs: int
    is_float: bool

    @property
    def elements(self) -> int:
        """Elements for one picture."""
        return math.prod(self.shape)


@dataclass(frozen=True, eq=False)
class ActivationGraph:
    """Activations in topological order; number 0 is the network's input. `outputs` are numbers, too."""

    tensors: tuple[Tensor, ...]
    outputs: tuple[int, ...]

    @cached_property
    def ancestors(self) -> tuple[int, ...]:
        """For each tensor the set of those it depends on, itself included, as a bit mask."""
        masks: list[int] = []
        for number, tensor in enumerate(self.tensors):
            mask = 1 << number
            for source in tensor.sources:
                mask |= masks[source]
            masks.append(mask)
        return tuple(masks)

    def computes(self, cut: Sequence[int]) -> bool:
        """Whether a layer with weights is before `cut`; else it is the picture itself in another form."""
        return any(tensor.operator in _WEIGHTED for tensor in self._head(cut))

    def head_macs(self, cut: Sequence[int]) -> int:
        """Multiply-adds of all that `cut` depends on."""
        return sum(tensor.macs for tensor in self._head(cut))

    def _head(self, cut: Sequence[int]) -> Iterator[Tensor]:
        mask = reduce(or_, (self.ancestors[member] for member in cut))
        return (tensor for number, tensor in enumerate(self.tensors) if mask >> number & 1)

    @cached_property
    def users(self) -> tuple[tuple[int, ...], ...]:
        """For each tensor those that are computed from it directly."""
        users: list[list[int]] = [[] for _ in self.tensors]
        for number, tensor in enumerate(self.tensors):
            for source in tensor.sources:
                users[source].append(number)
        return tuple(map(tuple, users))


def load_network(path: Path, picture: Sequence[int] = ()) -> onnx.ModelProto:
    """Read a network and infer its shapes; `picture` is its input's, without batch axis, where it is open.

    Raises:
        ModelError: not an ONNX file, not exactly one input, or networks within it (If, Loop, Scan).
    """
    try:
        model = onnx.load(path)
        constants = {tensor.name for tensor in model.graph.initializer}
        inputs = [value for value in model.graph.input if value.name not in constants]
        if len(inputs) == 1 and picture:
            _close_shape(inputs[0], picture)
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except Exception as error:  # ONNX and protobuf share no base class of errors
        raise ModelError(f"{path}: ONNX cannot read it: {error}") from error
    if len(inputs) != 1:
        raise ModelError(f"{path}: only networks with one input can be split, it has {len(inputs)}")
    for node in model.graph.node:
        if any(attribute.HasField("g") for attribute in node.attribute):
            raise ModelError(f"{path}: holds networks within a network ({node.op_type}); it cannot be split")
    return model


def _close_shape(value: onnx.ValueInfoProto, picture: Sequence[int]) -> None:
    """Give the axes behind the batch axis their lengths where the file leaves them open."""
    axes = list(value.type.tensor_type.shape.dim)[1:]
    for axis, length in zip(axes, picture, strict=False):  # another rank is the model's own complaint
        if not axis.dim_value:
            axis.dim_value = length


def activation_graph(model: onnx.ModelProto) -> ActivationGraph:
    """The activations of `model`, whose shapes have been inferred; constants are left out.

    A tensor whose shape is not known, but for the batch axis, cannot cross a cut.
    """
    graph = model.graph
    values = {value.name: value for value in (*graph.input, *graph.value_info, *graph.output)}
    constants = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    source = next(value.name for value in graph.input if value.name not in constants)
    shape, is_float = _shape_of(values[source])
    numbers = {source: 0}
    tensors = [Tensor(source, (), "", shape, 0, is_float)]
    for node in graph.node:
        sources = tuple(dict.fromkeys(numbers[name] for name in node.input if name in numbers))
        if not sources:
            continue
        for index, name in enumerate(filter(None, node.output)):
            shape, is_float = _shape_of(values[name]) if name in values else ((), False)
            macs = 0 if index else _macs(node, shape, constants)
            numbers[name] = len(tensors)
            tensors.append(Tensor(name, sources, node.op_type, shape, macs, is_float))
    return ActivationGraph(tuple(tensors), tuple(numbers[output.name] for output in graph.output))


def _shape_of(value: onnx.ValueInfoProto) -> tuple[tuple[int, ...], bool]:
    """Shape without the batch axis, and whether the tensor is float32, one row a picture, of known shape."""
    kind = value.type.tensor_type
    batch, *axes = [axis.dim_value for axis in kind.shape.dim] or [0]
    if batch > 1:  # channels were folded into the first axis: a row is no picture
        return (batch, *axes), False
    known = bool(axes) and all(axis > 0 for axis in axes)
    return tuple(axes), known and kind.elem_type == onnx.TensorProto.FLOAT


def _macs(node: onnx.NodeProto, shape: tuple[int, ...], constants: Mapping[str, tuple[int, ...]]) -> int:
    """Multiply-adds of one node for one picture, from the shape of its weight; else one an element."""
    elements = math.prod(shape)
    weight = next((constants[name] for name in node.input if len(constants.get(name, ())) > 1), None)
    if node.op_type not in _WEIGHTED or weight is None:
        return elements
    if node.op_type == "Conv":
        return elements * math.prod(weight[1:])
    return elements * math.prod(weight) // max(1, shape[-1] if shape else 1)
