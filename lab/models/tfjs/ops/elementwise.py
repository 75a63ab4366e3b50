"""Operators that look at one element of each input at a time."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from spillover.lab.models.tfjs.files import Node
from spillover.lab.models.tfjs.graph import Graph, Layout, Value, plain


def identity(graph: Graph, node: Node) -> Sequence[Value]:
    """The input itself."""
    return [graph.value(node.inputs[0])]


def relu(graph: Graph, node: Node) -> Sequence[Value]:
    """max(x, 0)."""
    return _unary(graph, node, "Relu")


def relu6(graph: Graph, node: Node) -> Sequence[Value]:
    """min(max(x, 0), 6)."""
    value = graph.value(node.inputs[0])
    limits = [graph.constant(np.array(limit, np.float32)) for limit in (0, 6)]
    return [replace(value, name=graph.emit("Clip", [value.name, *limits])[0])]


def leaky_relu(graph: Graph, node: Node) -> Sequence[Value]:
    """Max(x, 0) + alpha * min(x, 0)."""
    value = graph.value(node.inputs[0])
    alpha = node.number("alpha")

    def apply(name: str) -> str:
        return graph.emit("LeakyRelu", [name], alpha=alpha)[0]

    activated = apply(value.name)
    if alpha >= 0:
        graph.activations[activated] = (value.name, apply)
    return [replace(value, name=activated)]


def sigmoid(graph: Graph, node: Node) -> Sequence[Value]:
    """1 / (1 + exp(-x))."""
    return _unary(graph, node, "Sigmoid")


def add(graph: Graph, node: Node) -> Sequence[Value]:
    """The sum of all inputs: of two, of a bias, or of several."""
    return _folded(graph, node, "Add")


def sub(graph: Graph, node: Node) -> Sequence[Value]:
    """The first less the second."""
    return _folded(graph, node, "Sub")


def mul(graph: Graph, node: Node) -> Sequence[Value]:
    """The product of two."""
    return _folded(graph, node, "Mul")


def _unary(graph: Graph, node: Node, kind: str) -> Sequence[Value]:
    value = graph.value(node.inputs[0])
    return [replace(value, name=graph.emit(kind, [value.name])[0])]


def _folded(graph: Graph, node: Node, kind: str) -> Sequence[Value]:
    """The inputs from left to right; shapes are broadcast as in NumPy."""
    shapes = [_shape(graph, name) for name in node.inputs]
    shape = np.broadcast_shapes(*shapes)
    layout = next(
        (
            v.layout
            for n in node.inputs
            if (v := graph.values.get(n.removesuffix(":0"))) and len(v.shape) == len(shape)
        ),
        plain(len(shape)),
    )
    total, *rest = [_operand(graph, name, layout) for name in node.inputs]
    for operand in rest:
        total = graph.emit(kind, [total, operand])[0]
    return [Value(total, layout, shape)]


def _shape(graph: Graph, name: str) -> tuple[int, ...]:
    constant = graph.constants.value(name)
    return graph.value(name).shape if constant is None else constant.shape


def _operand(graph: Graph, name: str, layout: Layout) -> str:
    """One input in this layout; leading axes that it lacks are put before it."""
    constant = graph.constants.value(name)
    if constant is not None:
        whole = constant.reshape((1,) * (len(layout) - constant.ndim) + constant.shape)
        return graph.constant(whole.transpose(layout))
    value = graph.value(name)
    missing = len(layout) - len(value.shape)
    if missing:
        axes = graph.constant(np.arange(missing, dtype=np.int64))
        placed = graph.emit("Unsqueeze", [graph.in_layout(value, plain(len(value.shape))), axes])[0]
        value = Value(placed, plain(len(layout)), (1,) * missing + value.shape)
    return graph.in_layout(value, layout)
