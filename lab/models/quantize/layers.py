"""Decides from the graph which layers of a network stay float, and which weights are held to 7 bits.

Left float by default: the stem (first convolution, few multiplications on the raw picture). For detectors
also depthwise convolutions, the prediction convolutions and all that follows them: quantising every
convolution of YOLOX-nano takes its AP from .32 to .08, and boxes decoded from 8-bit numbers sit on a grid.
A detector of plain convolutions and ReLUs (NanoDet-g) takes 8 bits everywhere but at its ends. Pooling
behind its stem is part of these: ONNX Runtime takes a hundred times as long for one of 8 bits.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import onnx

from spillover.common.errors import ConfigError
from spillover.lab.models.quantize.recipe import FloatLayers

WEIGHTED = frozenset({"Conv", "Gemm", "MatMul"})
QUANTIZED = frozenset({"QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger"})


def is_quantized(path: Path) -> bool:
    """Whether the network in a file computes on integers already. A file that is no network is not."""
    try:
        nodes = onnx.load(path, load_external_data=False).graph.node
    except Exception:  # noqa: BLE001 - protobuf has no base class of errors; quantising it reports more
        return False
    return any(node.op_type in QUANTIZED for node in nodes)


def name_nodes(model: onnx.ModelProto) -> None:
    """Give each nameless node a name, so that it can be excluded."""
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{index}"


def excluded_nodes(graph: onnx.GraphProto, patterns: Sequence[str]) -> set[str]:
    """Names of the nodes that one of the regular expressions finds.

    Raises:
        ConfigError: a pattern is no regular expression, or finds no node (a typing mistake would otherwise
            quantise what should stay float).
    """
    names = [node.name for node in graph.node]
    excluded: set[str] = set()
    for pattern in patterns:
        try:
            hits = [name for name in names if re.search(pattern, name)]
        except re.error as error:
            raise ConfigError(f"exclude: {pattern!r} is not a regular expression: {error}") from error
        if not hits:
            raise ConfigError(f"exclude: {pattern!r} finds no node; they have names like {names[:3]}")
        excluded.update(hits)
    return excluded


def float_nodes(graph: onnx.GraphProto, layers: FloatLayers, *, locates: bool) -> set[str]:
    """Names of the nodes that stay float; more where the answers say where things are."""
    if layers is FloatLayers.NONE:
        return set()
    stem = {node.name for node in _reach(graph, forward=True) if node.op_type in WEIGHTED}
    if not locates:
        return stem
    ends = stem | {node.name for node in _reach(graph, forward=False)}
    if layers is FloatLayers.ENDS:
        return ends | _behind(graph, stem)
    return ends | {n.name for n in graph.node if n.op_type not in WEIGHTED or is_depthwise(n)}


def is_depthwise(node: onnx.NodeProto) -> bool:
    """Whether the node is a convolution whose channels are not summed (its groups are more than one)."""
    return node.op_type == "Conv" and any(a.name == "group" and a.i > 1 for a in node.attribute)


def dense_weights(graph: onnx.GraphProto, float_nodes: Iterable[str]) -> dict[str, int]:
    """Weights of quantised layers that sum over channels, with the axis of their output channels."""
    skipped, constants = set(float_nodes), {tensor.name for tensor in graph.initializer}
    return {
        node.input[1]: _output_axis(node)
        for node in graph.node
        if node.op_type in WEIGHTED
        and node.name not in skipped
        and node.input[1] in constants
        and not is_depthwise(node)
    }


def _output_axis(node: onnx.NodeProto) -> int:
    transposed = any(a.name == "transB" and a.i for a in node.attribute)
    return 0 if node.op_type == "Conv" or transposed else 1


def _behind(graph: onnx.GraphProto, stem: set[str]) -> set[str]:
    """What follows the stem's layers up to the next weighted ones, without these: activation and pooling."""
    edge = {tensor for node in graph.node if node.name in stem for tensor in node.output}
    found: set[str] = set()
    for node in graph.node:  # inputs come before their users
        if node.op_type not in WEIGHTED and edge.intersection(node.input):
            found.add(node.name)
            edge.update(node.output)
    return found


def _reach(graph: onnx.GraphProto, *, forward: bool) -> list[onnx.NodeProto]:
    """Nodes reached from the inputs (or, backward, the outputs) up to and with the first weighted ones."""
    enter, leave = _ends(forward=forward)
    at: dict[str, list[int]] = defaultdict(list)
    for index, node in enumerate(graph.node):
        for tensor in enter(node):
            at[tensor].append(index)
    edge = [value.name for value in (graph.input if forward else graph.output)]
    reached: dict[int, onnx.NodeProto] = {}
    while edge:
        for index in at[edge.pop()]:
            if index not in reached:
                node = reached[index] = graph.node[index]
                edge += [] if node.op_type in WEIGHTED else list(leave(node))
    return list(reached.values())


def _ends(
    *, forward: bool
) -> tuple[Callable[[onnx.NodeProto], Iterable[str]], Callable[[onnx.NodeProto], Iterable[str]]]:
    def inputs(node: onnx.NodeProto) -> Iterable[str]:
        return node.input

    def outputs(node: onnx.NodeProto) -> Iterable[str]:
        return node.output

    return (inputs, outputs) if forward else (outputs, inputs)
