"""Operators over the rows and columns of a picture that have no weights."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from spillover.common.errors import ModelError
from spillover.lab.models.tfjs.files import Node
from spillover.lab.models.tfjs.graph import CHANNELS_FIRST, Graph, Value
from spillover.lab.models.tfjs.ops.windows import Windows


def pad(graph: Graph, node: Node) -> Sequence[Value]:
    """Pad with zeros, or PadV2 with a value: how much before and after each axis."""
    value, amounts = graph.value(node.inputs[0]), graph.known(node, 1)
    filler = graph.known(node, 2) if len(node.inputs) > 2 else np.array(0)
    ordered = amounts[list(value.layout)].astype(np.int64)
    padded = graph.emit(
        "Pad",
        [
            value.name,
            graph.constant(ordered.T.reshape(-1)),
            graph.constant(filler.reshape(()).astype(np.float32)),
        ],
    )[0]
    shape = tuple(length + int(more) for length, more in zip(value.shape, amounts.sum(axis=1), strict=True))
    if filler <= np.finfo(np.float32).min:
        graph.margins[padded] = (value.name, ordered)
    return [replace(value, name=padded, shape=shape)]


def max_pool(graph: Graph, node: Node) -> Sequence[Value]:
    """The largest of each window; padding never wins.

    A padding of minus infinity before it becomes its own: 8 bits have no infinity. An activation before it
    goes behind it, where fewer elements are. That keeps the pooling of a quantised network float too: ONNX
    Runtime would draw the rounding before it, and its pooling of 8 bits takes a hundred times as long.
    """
    value = graph.value(node.inputs[0])
    windows = Windows.of(node, tuple(node.integers("ksize")[1:3]))
    batch, height, width, channels = value.shape
    attributes = windows.attributes(height, width)
    if not windows.same and value.name in graph.margins:
        inner, amounts = graph.margins[value.name]
        (none, top, left, other) = (amounts[value.onnx_axis(axis)].tolist() for axis in range(4))
        reach = max(*top, *left)
        if not any((*none, *other)) and reach < min(windows.kernel):  # as far as ONNX lets a pooling pad
            value = replace(value, name=inner)
            attributes["pads"] = [top[0], left[0], top[1], left[1]]
    activate = None
    if value.name in graph.activations:
        name, activate = graph.activations[value.name]
        value = replace(value, name=name)
    pooled = graph.emit("MaxPool", [graph.in_layout(value, CHANNELS_FIRST)], **attributes)[0]
    pooled = activate(pooled) if activate else pooled
    return [Value(pooled, CHANNELS_FIRST, (batch, *windows.places(height, width), channels))]


def resize_bilinear(graph: Graph, node: Node) -> Sequence[Value]:
    """To a constant size. It is written as a factor, so that the batch axis stays free.

    Raises:
        ModelError: the size is no whole number of pixels times a factor that ONNX would round alike.
    """
    value = graph.value(node.inputs[0])
    batch, height, width, channels = value.shape
    rows, columns = (round(int(length) * graph.resized) for length in graph.known(node, 1))
    factors = np.array([1, 1, rows / height, columns / width], np.float32)
    if [int(height * factors[2]), int(width * factors[3])] != [rows, columns]:
        raise ModelError(
            f"node {node.name} ({node.op}): {height}x{width} to {rows}x{columns} is no plain factor"
        )
    mode = "asymmetric"
    if node.flag("align_corners"):
        mode = "align_corners"
    elif node.flag("half_pixel_centers"):
        mode = "half_pixel"
    resized = graph.emit(
        "Resize",
        [graph.in_layout(value, CHANNELS_FIRST), "", graph.constant(factors)],
        mode="linear",
        coordinate_transformation_mode=mode,
    )[0]
    return [Value(resized, CHANNELS_FIRST, (batch, rows, columns, channels))]
