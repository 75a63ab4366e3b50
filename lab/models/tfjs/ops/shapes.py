"""Operators that move elements and compute nothing."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from spillover.common.errors import ModelError
from spillover.lab.models.tfjs.files import Node
from spillover.lab.models.tfjs.graph import CHANNELS_FIRST, Graph, Value, plain


def transpose(graph: Graph, node: Node) -> Sequence[Value]:
    """Another order of the axes: nothing is moved, only the layout is."""
    order = [int(axis) for axis in graph.known(node, 1)]
    return [graph.value(node.inputs[0]).transposed(order)]


def concat(graph: Graph, node: Node) -> Sequence[Value]:
    """One after the other along an axis."""
    *sources, _ = node.inputs
    values = [graph.value(name) for name in sources]
    rank = len(values[0].shape)
    axis = int(graph.known(node, len(sources))) % rank
    layouts = {value.layout for value in values}
    other = CHANNELS_FIRST if rank == len(CHANNELS_FIRST) else plain(rank)
    layout = layouts.pop() if len(layouts) == 1 else other
    joined = graph.emit(
        "Concat", [graph.in_layout(value, layout) for value in values], axis=layout.index(axis)
    )[0]
    shape = list(values[0].shape)
    shape[axis] = sum(value.shape[axis] for value in values)
    return [Value(joined, layout, tuple(shape))]


def split(graph: Graph, node: Node) -> Sequence[Value]:
    """SplitV: parts of these lengths along an axis."""
    value, lengths = graph.value(node.inputs[0]), graph.known(node, 1).astype(np.int64)
    axis = int(graph.known(node, 2)) % len(value.shape)
    if (lengths < 0).any() or lengths.sum() != value.shape[axis]:
        raise ModelError(f"node {node.name} ({node.op}): {lengths.tolist()} of {value.shape[axis]} elements")
    names = graph.emit(
        "Split", [value.name, graph.constant(lengths)], len(lengths), axis=value.onnx_axis(axis)
    )
    parts = []
    for name, length in zip(names, lengths.tolist(), strict=True):
        shape = (*value.shape[:axis], length, *value.shape[axis + 1 :])
        parts.append(replace(value, name=name, shape=shape))
    return parts


def reshape(graph: Graph, node: Node) -> Sequence[Value]:
    """Another shape. The batch stays free, and the longest other axis takes what is left.

    So the same node fits the network at another input size. Raises ModelError where the batch is not the
    first axis of both shapes.
    """
    value = graph.value(node.inputs[0])
    wanted = [int(length) for length in graph.known(node, 1)]
    if wanted[0] not in {value.shape[0], -1}:
        raise ModelError(f"node {node.name} ({node.op}): {value.shape} to {wanted} moves the batch")
    wanted[0] = value.shape[0]
    left = wanted.index(-1) if -1 in wanted[1:] else 1 + int(np.argmax(wanted[1:]))
    others = math.prod(length for axis, length in enumerate(wanted) if axis != left)
    shape = [*wanted[:left], math.prod(value.shape) // others, *wanted[left + 1 :]]
    target = [0, *wanted[1:left], -1, *wanted[left + 1 :]]
    placed = graph.in_layout(value, plain(len(value.shape)))
    reshaped = graph.emit("Reshape", [placed, graph.constant(np.array(target, np.int64))])[0]
    return [Value(reshaped, plain(len(shape)), tuple(shape))]
