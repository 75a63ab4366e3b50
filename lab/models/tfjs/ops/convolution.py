"""Convolutions and batch normalisation. Pictures have their channels last, weights are (y, x, in, out)."""

from collections.abc import Sequence
from dataclasses import replace

from spillover.common.errors import ModelError
from spillover.lab.models.tfjs.files import Array, Node
from spillover.lab.models.tfjs.graph import CHANNELS_FIRST, Graph, Value
from spillover.lab.models.tfjs.ops.windows import Windows, check_channels_last


def conv(graph: Graph, node: Node) -> Sequence[Value]:
    """Conv2D, in one group."""
    weight = graph.known(node, 1)
    return _convolved(graph, node, weight.transpose(3, 2, 0, 1), groups=1)


def depthwise_conv(graph: Graph, node: Node) -> Sequence[Value]:
    """DepthwiseConv2dNative: `multiplier` filters for each channel, weights (y, x, in, multiplier)."""
    weight = graph.known(node, 1)
    rows, columns, channels, multiplier = weight.shape
    filters = weight.transpose(2, 3, 0, 1).reshape(channels * multiplier, 1, rows, columns)
    return _convolved(graph, node, filters, groups=channels)


def batch_norm(graph: Graph, node: Node) -> Sequence[Value]:
    """FusedBatchNorm after training: with stored mean and variance. Only the first output is used then."""
    check_channels_last(node)
    if node.flag("is_training"):
        raise ModelError(f"node {node.name} ({node.op}) normalises by its batch: export for inference")
    value = graph.value(node.inputs[0])
    parts = [graph.constant(graph.known(node, index)) for index in range(1, 5)]
    normalised = graph.emit(
        "BatchNormalization",
        [graph.in_layout(value, CHANNELS_FIRST), *parts],
        epsilon=node.number("epsilon"),
    )[0]
    return [replace(value, name=normalised, layout=CHANNELS_FIRST)]


def _convolved(graph: Graph, node: Node, filters: Array, groups: int) -> Sequence[Value]:
    value = graph.value(node.inputs[0])
    windows = Windows.of(node, filters.shape[2:])
    batch, height, width, _ = value.shape
    made = graph.emit(
        "Conv",
        [graph.in_layout(value, CHANNELS_FIRST), graph.constant(filters)],
        group=groups,
        dilations=list(windows.dilations),
        **windows.attributes(height, width),
    )[0]
    return [Value(made, CHANNELS_FIRST, (batch, *windows.places(height, width), filters.shape[0]))]
