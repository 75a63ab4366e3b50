"""A TensorFlow.js graph, or the part of one between an input and some outputs, as an ONNX network."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx

from spillover.common.errors import ModelError
from spillover.lab.models.tfjs.files import Node, TfjsModel
from spillover.lab.models.tfjs.graph import Graph, Layout
from spillover.lab.models.tfjs.ops import OPS


@dataclass(frozen=True, slots=True)
class Feed:
    """What becomes the network's input.

    `source` is TensorFlow's name of it, `shape` its shape for one picture, batch first. Axis i of the ONNX
    input is axis `layout[i]` of it: `CHANNELS_FIRST` for pictures that TensorFlow has channels last.
    """

    source: str
    name: str
    shape: tuple[int, ...]
    layout: Layout


def convert(
    model: TfjsModel, feed: Feed, outputs: Mapping[str, str], *, resized: float = 1.0
) -> onnx.ModelProto:
    """The network from `feed` to `outputs`: TensorFlow's names, and the names to give them.

    The batch axis is free. `resized` is the side of `feed` over the side that the file is for: sizes that
    the file holds as constants, those of `ResizeBilinear`, are multiplied by it.

    Raises:
        ModelError: a node is missing, of an operator not known here, or of a form not known here.
    """
    graph = Graph(model, resized)
    graph.feed(feed.source, feed.name, feed.shape, feed.layout)
    for node in _in_order(model, graph, list(outputs)):
        if node.op not in OPS:
            raise ModelError(f"node {node.name}: operator {node.op} is not known here, only {', '.join(OPS)}")
        try:
            values = OPS[node.op](graph, node)
        except (IndexError, ValueError) as error:  # of NumPy, where shapes do not fit each other
            raise ModelError(f"node {node.name} ({node.op}): {error}") from error
        graph.values[node.name] = values[0]
        graph.values |= {f"{node.name}:{number}": value for number, value in enumerate(values) if number}
    return graph.finished(list(outputs.items()), "tfjs")


def _in_order(model: TfjsModel, graph: Graph, outputs: Sequence[str]) -> Iterator[Node]:
    """The nodes that the outputs need and that are neither fed nor constant, each behind its inputs.

    Without recursion: a network is deeper than Python's stack.
    """
    done, open_ = set(graph.values), list(reversed(outputs))
    while open_:
        name = open_[-1].partition(":")[0]
        if name in done or graph.constants.value(open_[-1]) is not None:
            open_.pop()
            continue
        if (node := model.nodes.get(name)) is None:
            raise ModelError(f"the graph has no node {name!r}")
        if node.op == "Placeholder":
            raise ModelError(f"node {name} is an input of the graph that nothing is fed to")
        missing = [
            one
            for one in node.inputs
            if one.partition(":")[0] not in done and graph.constants.value(one) is None
        ]
        if missing:
            if len(open_) > 4 * len(model.nodes):
                raise ModelError(f"node {name} depends on itself")
            open_ += missing
            continue
        open_.pop()
        done.add(name)
        yield node
