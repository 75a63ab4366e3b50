"""An ONNX network as tensors in, tensors out: its signature, and how many rows one run may take."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from common.errors import ModelError
from common.types import ModelId

Tensor = npt.NDArray[np.generic]

# ONNX Runtime's names of element types -> (name in the Open Inference Protocol, numpy's).
# ONNX strings are UTF-8; in numpy they are objects, and the protocol calls them BYTES.
_ELEMENT_TYPES: dict[str, tuple[str, npt.DTypeLike]] = {
    "tensor(bool)": ("BOOL", np.bool_),
    "tensor(uint8)": ("UINT8", np.uint8),
    "tensor(uint16)": ("UINT16", np.uint16),
    "tensor(uint32)": ("UINT32", np.uint32),
    "tensor(uint64)": ("UINT64", np.uint64),
    "tensor(int8)": ("INT8", np.int8),
    "tensor(int16)": ("INT16", np.int16),
    "tensor(int32)": ("INT32", np.int32),
    "tensor(int64)": ("INT64", np.int64),
    "tensor(float16)": ("FP16", np.float16),
    "tensor(float)": ("FP32", np.float32),
    "tensor(double)": ("FP64", np.float64),
    "tensor(string)": ("BYTES", np.object_),
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
        self.batchable = first == {-1}
        only = first.pop() if len(first) == 1 else None
        self.fixed_rows = only if only is not None and only > 0 else None
        self._input_names = [spec.name for spec in self.inputs]
        self._output_names = [spec.name for spec in self.outputs]

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Run whole tensors, in the order of `inputs`; the outputs come in the order of `outputs`.

        Raises:
            ModelError: ONNX Runtime fails.
        """
        try:
            feed = dict(zip(self._input_names, inputs, strict=True))
            outputs: list[Tensor] = self.session.run(self._output_names, feed)
        except Exception as error:
            raise ModelError(f"model {self.model_id}: ONNX Runtime failed: {error}") from error
        return outputs


def _spec(arg: ort.NodeArg, model_id: ModelId) -> TensorSpec:
    if arg.type not in _ELEMENT_TYPES:
        raise ModelError(f"model {model_id}: {arg.name} is of type {arg.type}, which cannot be served")
    datatype, dtype = _ELEMENT_TYPES[arg.type]
    shape = tuple(length if isinstance(length, int) else -1 for length in arg.shape)
    return TensorSpec(arg.name, datatype, np.dtype(dtype), shape)
