"""An ONNX network as tensors in, tensors out: its signature, and how many rows one run may take."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort

from spillover.cloud.executors.io_binding import bound_runner, padded_sizes
from spillover.cloud.executors.latency import LatencyModel
from spillover.common.errors import ModelError
from spillover.common.types import ModelId
from spillover.common.wire.tensors import DTYPES, Tensor

# ONNX Runtime's names of element types -> the Open Inference Protocol's.
_DATATYPES = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output. `shape` has -1 where any length will do; the batch axis leads."""

    name: str
    datatype: str
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]


class Network:
    """One ONNX Runtime session, which several threads may run at once.

    `batchable`: the first axis of every input and output is the batch and has no fixed length, so requests
    can be joined. `fixed_rows`: the first axis has this one length everywhere; else None.

    Raises:
        ModelError: an input or output is of a kind that cannot be served.
    """

    def __init__(self, model_id: ModelId, session: ort.InferenceSession) -> None:
        self.model_id = model_id
        self.session = session
        self.inputs = tuple(_spec(arg, model_id) for arg in session.get_inputs())
        self.outputs = tuple(_spec(arg, model_id) for arg in session.get_outputs())
        first = {spec.shape[0] if spec.shape else None for spec in (*self.inputs, *self.outputs)}
        self.batchable = first == {-1} and bool(self.inputs)
        only = first.pop() if len(first) == 1 else None
        self.fixed_rows = only if only is not None and only > 0 else None
        self.costs = LatencyModel()
        self._input_names = [spec.name for spec in self.inputs]
        self._output_names = [spec.name for spec in self.outputs]
        self._bound = bound_runner(session, self.inputs)

    def warm_up(self, runs: int, rows: int = 2) -> None:
        """Run on zeros: one row, and where there is a batch axis `rows`, two or more. Learns what runs cost.

        Inputs of free size are not tried. A network whose file promises a free batch axis and that gives back
        another number of rows is from then on run one request at a time.

        Raises:
            ModelError: it cannot be run.
        """
        shapes = [spec.shape[1:] if self.batchable else spec.shape for spec in self.inputs]
        if any(length < 0 for shape in shapes for length in shape):
            return
        many = max(rows, 2)
        if self._bound and self.batchable:
            for size in padded_sizes(many):  # what is slow the first time is slow now
                self.run([_zeros(spec, (size, *spec.shape[1:])) for spec in self.inputs])
        self.costs = LatencyModel(many)
        for size in (1, many) * runs:  # in turns, so that what disturbs one disturbs the other
            if self.batchable:
                outputs = self.run([_zeros(spec, (size, *spec.shape[1:])) for spec in self.inputs])
                self.batchable = all(len(output) == size for output in outputs)
            else:
                self.run([_zeros(spec, spec.shape) for spec in self.inputs])

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Run whole tensors, in the order of `inputs`; the outputs come in the order of `outputs`.

        Raises:
            ModelError: ONNX Runtime fails.
        """
        start_s = time.perf_counter()
        try:
            outputs = self._bound.run(inputs, pads=self.batchable) if self._bound else self._run(inputs)
        except Exception as error:
            raise ModelError(f"model {self.model_id}: ONNX Runtime failed: {error}") from error
        rows = len(inputs[0]) if self.batchable else 1
        self.costs.learn(rows, time.perf_counter() - start_s)
        return outputs

    def named(self, outputs: Sequence[Tensor], wanted: Sequence[str] = ()) -> dict[str, Tensor]:
        """What `run` gave, by name: all of it, or `wanted` alone, in that order."""
        named = dict(zip(self._output_names, outputs, strict=True))
        return {name: named[name] for name in wanted} if wanted else named

    def _run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        feed = dict(zip(self._input_names, inputs, strict=True))
        outputs: list[Tensor] = self.session.run(self._output_names, feed)
        return outputs


def _zeros(spec: TensorSpec, shape: tuple[int, ...]) -> Tensor:
    return np.full(shape, "", np.object_) if spec.dtype.hasobject else np.zeros(shape, spec.dtype)


def _spec(arg: ort.NodeArg, model_id: ModelId) -> TensorSpec:
    if arg.type not in _DATATYPES:
        raise ModelError(f"model {model_id}: {arg.name} is of type {arg.type}, which cannot be served")
    datatype = _DATATYPES[arg.type]
    shape = tuple(length if isinstance(length, int) else -1 for length in arg.shape)
    return TensorSpec(arg.name, datatype, DTYPES[datatype], shape)
