"""The networks of the benchmark: one costs nothing, one gains from batches, one does not."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from spillover.common.model.manifest import MODEL_FILE
from spillover.common.types import FloatArray

_SEED = 20240607


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """A network of the benchmark: `INPUT0` (N, *input_shape) float32 to `OUTPUT0` (N, *output_shape)."""

    name: str
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    max_batch_size: int
    about: str
    build: Callable[[], onnx.GraphProto]

    def sample(self) -> FloatArray:
        """One row of input (1, *input_shape)."""
        values = np.random.default_rng(_SEED).standard_normal((1, *self.input_shape))
        return values.astype(np.float32)


def write_networks(repository: Path, specs: "Iterable[NetworkSpec] | None" = None) -> None:
    """Write each network, or `specs` alone, as `<repository>/<name>/1/model.onnx`."""
    for spec in NETWORKS.values() if specs is None else specs:
        folder = repository / spec.name / "1"
        folder.mkdir(parents=True, exist_ok=True)
        model = helper.make_model(spec.build(), opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, folder / MODEL_FILE)


class _Graph:
    """Nodes and random weights; the only seed is `_SEED`, so that every run measures the same network."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._rng = np.random.default_rng(_SEED)

    def add(self, kind: str, inputs: list[str], **attributes: int | list[int]) -> str:
        output = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))  # type: ignore[arg-type]
        return output

    def weight(self, *shape: int) -> str:
        """He initialisation keeps activations in range through any depth."""
        fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 1
        values = self._rng.standard_normal(shape) * np.sqrt(2 / fan_in)
        name = f"weight_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def finish(
        self, last: str, input_shape: tuple[int, ...], output_shape: tuple[int, ...]
    ) -> onnx.GraphProto:
        self.nodes.append(helper.make_node("Identity", [last], ["OUTPUT0"]))
        return helper.make_graph(
            self.nodes,
            "bench",
            [helper.make_tensor_value_info("INPUT0", TensorProto.FLOAT, ["N", *input_shape])],
            [helper.make_tensor_value_info("OUTPUT0", TensorProto.FLOAT, ["N", *output_shape])],
            self.weights,
        )


def _identity() -> onnx.GraphProto:
    return _Graph().finish("INPUT0", (16,), (16,))


def _mlp() -> onnx.GraphProto:
    """Three layers of 2048 x 2048: 50 MB of weights are read for each run, whatever the batch."""
    graph, x = _Graph(), "INPUT0"
    for _ in range(3):
        x = graph.add("Relu", [graph.add("Gemm", [x, graph.weight(2048, 2048)], transB=1)])
    return graph.finish(x, (2048,), (2048,))


def _resnet18() -> onnx.GraphProto:
    """ResNet-18 (arXiv 1512.03385) at 224 x 224 with batch normalisation folded away."""
    graph = _Graph()

    def conv(x: str, into: int, outof: int, size: int, stride: int) -> str:
        pad = size // 2
        weight = graph.weight(outof, into, size, size)
        return graph.add("Conv", [x, weight], pads=[pad] * 4, strides=[stride] * 2)

    x = graph.add("Relu", [conv("INPUT0", 3, 64, 7, 2)])
    x = graph.add("MaxPool", [x], kernel_shape=[3, 3], pads=[1] * 4, strides=[2, 2])
    into = 64
    for outof in (64, 128, 256, 512):
        for stride in (1 if outof == 64 else 2, 1):
            inner = graph.add("Relu", [conv(x, into, outof, 3, stride)])
            shortcut = x if into == outof else conv(x, into, outof, 1, stride)
            summed = graph.add("Add", [conv(inner, outof, outof, 3, 1), shortcut])
            x, into = graph.add("Relu", [summed]), outof
    x = graph.add("Flatten", [graph.add("GlobalAveragePool", [x])])
    return graph.finish(graph.add("Gemm", [x, graph.weight(1000, 512)], transB=1), (3, 224, 224), (1000,))


NETWORKS: Mapping[str, NetworkSpec] = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            NetworkSpec("identity", (16,), (16,), 16, "costs nothing: the server alone", _identity),
            NetworkSpec("mlp", (2048,), (2048,), 16, "bound by its weights: batching pays", _mlp),
            NetworkSpec("resnet18", (3, 224, 224), (1000,), 4, "a CNN: batching gains nothing", _resnet18),
        )
    }
)
