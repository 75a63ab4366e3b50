"""Runs a network whose memory is on another device: inputs go into buffers that are there already.

`InferenceSession.run` takes memory of the device anew for each run. Here each shape has its buffers once, one
copy from the host fills them, and ONNX Runtime gives the outputs back on the host (IO binding,
https://onnxruntime.ai/docs/performance/tune-performance/iobinding.html). The host's side is ordinary memory:
ONNX Runtime's Python interface hands out none that is page-locked.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime as ort

from spillover.common.wire.tensors import Tensor

if TYPE_CHECKING:
    from spillover.cloud.executors.local import TensorSpec

CUDA = "CUDAExecutionProvider"
_MAX_SHAPES = 16
_MAX_PADDED_ROWS = 64

Key = tuple[tuple[int, ...], ...]


class BoundRunner:
    """Runs one session on `device` (ONNX Runtime's name of it). Several threads may run it at once."""

    def __init__(self, session: ort.InferenceSession, specs: "Sequence[TensorSpec]", device: str) -> None:
        self._session = session
        self._specs = specs
        self._device = device
        self._of_thread = threading.local()

    def run(self, inputs: Sequence[Tensor], *, pads: bool) -> list[Tensor]:
        """Run whole tensors in the order of the session's inputs; outputs in the order of its outputs.

        With `pads` the first axis is the batch, and is filled up with zeros to a power of two: cuDNN searches
        for its quickest convolutions at each new shape, and a batcher would show it every number of rows.
        """
        if not pads:
            return self._lane(tuple(one.shape for one in inputs)).run(inputs, 0)
        rows = len(inputs[0])
        padded = padded_rows(rows)
        outputs = self._lane(tuple((padded, *one.shape[1:]) for one in inputs)).run(inputs, rows)
        return [output[:rows] if len(output) == padded else output for output in outputs]

    def _lane(self, shapes: Key) -> "_Lane":
        """This thread's buffers for inputs of these shapes; the shapes that were used last are kept."""
        lanes: OrderedDict[Key, _Lane] = self._of_thread.__dict__.setdefault("lanes", OrderedDict())
        lane = lanes.pop(shapes, None) or _Lane(self._session, self._specs, shapes, self._device)
        lanes[shapes] = lane
        if len(lanes) > _MAX_SHAPES:
            lanes.popitem(last=False)
        return lane


class _Lane:
    """Buffers on both sides for inputs of one shape, and what binds them to the session."""

    def __init__(
        self, session: ort.InferenceSession, specs: "Sequence[TensorSpec]", shapes: Key, device: str
    ) -> None:
        self._session = session
        self._binding = session.io_binding()
        self._there = [
            ort.OrtValue.ortvalue_from_shape_and_type(list(shape), spec.dtype.type, device, 0)
            for spec, shape in zip(specs, shapes, strict=True)
        ]
        self._here: list[Tensor | None] = [None] * len(specs)
        for spec, buffer in zip(specs, self._there, strict=True):
            self._binding.bind_ortvalue_input(spec.name, buffer)
        for output in session.get_outputs():
            self._binding.bind_output(output.name, "cpu")

    def run(self, inputs: Sequence[Tensor], rows: int) -> list[Tensor]:
        for index, (there, tensor) in enumerate(zip(self._there, inputs, strict=True)):
            there.update_inplace(self._filled(index, tensor, rows))
        self._binding.synchronize_inputs()
        self._session.run_with_iobinding(self._binding)
        outputs: list[Tensor] = self._binding.copy_outputs_to_cpu()
        return outputs

    def _filled(self, index: int, tensor: Tensor, rows: int) -> Tensor:
        """`tensor` itself where it has the buffer's shape, else padded with zeros."""
        shape = tuple(self._there[index].shape())
        if tensor.shape == shape:
            return tensor
        staged = self._here[index]
        if staged is None:
            staged = self._here[index] = np.zeros(shape, tensor.dtype)
        staged[:rows] = tensor
        staged[rows:] = 0
        return staged


def padded_rows(rows: int) -> int:
    """The next power of two, as far as that pays; larger requests are taken as they are."""
    return 1 << (rows - 1).bit_length() if 0 < rows <= _MAX_PADDED_ROWS else rows


def padded_sizes(rows: int) -> list[int]:
    """Every number of rows that requests of up to `rows` rows are padded to."""
    return sorted({padded_rows(count) for count in range(1, rows + 1)})


def bound_runner(session: ort.InferenceSession, specs: "Sequence[TensorSpec]") -> BoundRunner | None:
    """The runner for a session on CUDA; None on the CPU, and for text, which no device holds."""
    if session.get_providers()[0] != CUDA or any(spec.dtype.hasobject for spec in specs):
        return None
    return BoundRunner(session, specs, "cuda")
