"""Cuts a network in two, and compares the two with the whole."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx.utils import Extractor

from spillover.common.errors import ModelError
from spillover.common.model.runtimes.onnxruntime import open_runtime
from spillover.common.model.session_config import SessionConfig
from spillover.common.types import FloatArray, Tensor

TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class Halves:
    """Head and tail of one cut, as networks."""

    head: onnx.ModelProto
    tail: onnx.ModelProto


def cut_network(model: onnx.ModelProto, tensors: Sequence[str]) -> Halves:
    """Head (input to `tensors`) and tail (`tensors` to outputs) of a network whose shapes are inferred.

    Raises:
        ModelError: the tail needs other tensors too: they are no cut.
    """
    extractor = Extractor(model)
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value.name for value in model.graph.input if value.name not in constants]
    outputs = [value.name for value in model.graph.output]
    try:
        head = extractor.extract_model(inputs, list(tensors))
        tail = extractor.extract_model(list(tensors), outputs)
        for half in (head, tail):
            onnx.checker.check_model(half)
    except Exception as error:  # ONNX's checker and protobuf share no base class of errors
        raise ModelError(f"cannot cut at {', '.join(tensors)}: {error}") from error
    return Halves(head, tail)


class Half:
    """A head or tail in memory: named tensors in, tensors out, in a fixed order; one picture at a time."""

    def __init__(self, path: Path, threads: int = 0) -> None:
        self._runtime = open_runtime(path, SessionConfig(threads=threads))
        self.inputs = self._runtime.inputs
        self.output_names = [spec.name for spec in self._runtime.outputs]

    def run(self, tensors: Sequence[Tensor]) -> list[FloatArray]:
        """Tensors (1, ...) in the order of `inputs` to tensors in the order of `output_names`."""
        return self._runtime.run(tensors)  # type: ignore[return-value]  # cuts are float32


def largest_difference(whole: Sequence[FloatArray], parts: Sequence[FloatArray]) -> float:
    """The largest difference of an element, relative to its size where that is above 1."""
    return max(
        float((np.abs(a - b) / np.maximum(1, np.abs(a))).max()) for a, b in zip(whole, parts, strict=True)
    )
