"""ONNX Runtime: the one module of this repository that imports it.

On a CUDA device a run goes through IO binding. `InferenceSession.run` allocates device memory at each run; a
binding has its buffers once for each shape, and one copy from the host fills them
(https://onnxruntime.ai/docs/performance/tune-performance/iobinding.html). The host's side is ordinary memory:
ONNX Runtime's Python interface hands out none that is page-locked.
"""

import contextlib
import os
import re
import sys
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

# Since 1.29 ONNX Runtime reports usage to its makers unless this is set when it is loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime as ort
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException

from spillover.common.config.words import did_you_mean
from spillover.common.errors import ConfigError, InputRefusedError, ModelError
from spillover.common.files import open_regular
from spillover.common.model.runtimes.base import MAX_NETWORK_BYTES, Device, TensorSpec
from spillover.common.model.session_config import SessionConfig
from spillover.common.types import Tensor

CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"
_MAX_SHAPES = 16

_IN_A_NODE = "Non-zero status code returned while running"
_OF_THE_MACHINE = re.compile(r"(?i)allocat|bad_alloc|out of memory|cuda|cudnn|cublas")

# ONNX Runtime's names of element types. Strings are `str` objects.
_DTYPES = {
    "tensor(bool)": np.dtype(np.bool_),
    "tensor(uint8)": np.dtype(np.uint8),
    "tensor(uint16)": np.dtype(np.uint16),
    "tensor(uint32)": np.dtype(np.uint32),
    "tensor(uint64)": np.dtype(np.uint64),
    "tensor(int8)": np.dtype(np.int8),
    "tensor(int16)": np.dtype(np.int16),
    "tensor(int32)": np.dtype(np.int32),
    "tensor(int64)": np.dtype(np.int64),
    "tensor(float16)": np.dtype(np.float16),
    "tensor(float)": np.dtype(np.float32),
    "tensor(double)": np.dtype(np.float64),
    "tensor(string)": np.dtype(np.object_),
}

Shapes = tuple[tuple[int, ...], ...]


class OnnxRuntime:
    """A `Runtime` over one ONNX Runtime session.

    Raises:
        ModelError: an input or output is of a type that no array has.
    """

    platform = "onnxruntime_onnx"

    def __init__(self, session: ort.InferenceSession) -> None:
        self.inputs = tuple(map(_spec, session.get_inputs()))
        self.outputs = tuple(map(_spec, session.get_outputs()))
        on_cuda = session.get_providers()[0] == CUDA
        self.device = Device.GPU if on_cuda else Device.CPU
        self._session = session
        self._input_names = [spec.name for spec in self.inputs]
        self._output_names = [spec.name for spec in self.outputs]
        has_text = any(spec.dtype.hasobject for spec in self.inputs)  # which no device holds
        self._bound = BoundSession(session, self.inputs, "cuda") if on_cuda and not has_text else None

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Run whole tensors, in the order of `inputs`; the outputs come in the order of `outputs`."""
        session, bound = self._session, self._bound
        if session is None:
            raise ModelError("the network is closed")
        try:
            if bound is not None:
                return bound.run(inputs)
            feed = dict(zip(self._input_names, inputs, strict=True))
            outputs: list[Tensor] = session.run(self._output_names, feed)
        except Exception as error:  # ONNX Runtime's errors share no base class
            raise _error_of(error) from error
        return outputs

    def close(self) -> None:
        """Let go of the session; runs under way hold it to their end."""
        self._session = self._bound = None


class BoundSession:
    """Runs one session with its buffers on `device` (ONNX Runtime's name of it), from several threads."""

    def __init__(self, session: ort.InferenceSession, specs: Sequence[TensorSpec], device: str) -> None:
        self._session = session
        self._specs = specs
        self._device = device
        self._of_thread = threading.local()

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Run whole tensors in the order of the session's inputs; outputs in the order of its outputs."""
        return self._binding(tuple(tensor.shape for tensor in inputs)).run(inputs)

    def _binding(self, shapes: Shapes) -> "_Binding":
        """This thread's buffers for inputs of these shapes; the shapes that were used last are kept."""
        bindings: OrderedDict[Shapes, _Binding] = self._of_thread.__dict__.setdefault(
            "bindings", OrderedDict()
        )
        binding = bindings.pop(shapes, None) or _Binding(self._session, self._specs, shapes, self._device)
        bindings[shapes] = binding
        if len(bindings) > _MAX_SHAPES:
            bindings.popitem(last=False)
        return binding


class _Binding:
    """Buffers on the device for inputs of one shape, and what binds them to the session."""

    def __init__(
        self, session: ort.InferenceSession, specs: Sequence[TensorSpec], shapes: Shapes, device: str
    ) -> None:
        self._session = session
        self._binding = session.io_binding()
        self._buffers = [
            ort.OrtValue.ortvalue_from_shape_and_type(list(shape), spec.dtype.type, device, 0)
            for spec, shape in zip(specs, shapes, strict=True)
        ]
        for spec, buffer in zip(specs, self._buffers, strict=True):
            self._binding.bind_ortvalue_input(spec.name, buffer)
        for output in session.get_outputs():
            self._binding.bind_output(output.name, "cpu")

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        for buffer, tensor in zip(self._buffers, inputs, strict=True):
            buffer.update_inplace(tensor)
        self._binding.synchronize_inputs()
        self._session.run_with_iobinding(self._binding)
        outputs: list[Tensor] = self._binding.copy_outputs_to_cpu()
        return outputs


def open_runtime(path: Path, config: SessionConfig, *, optimise: bool = True) -> OnnxRuntime:
    """Load the network at `path`.

    Without `optimise` each node of the graph runs as it stands in the file: slower, and exact for quantised
    layers.

    Raises:
        ModelError: it is no regular file, ONNX Runtime cannot load it, or has not the execution providers of
            `config`.
    """
    try:
        with open_regular(path, MAX_NETWORK_BYTES):  # a pipe would be waited for
            pass
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}") from error
    options = ort.SessionOptions()
    options.intra_op_num_threads = config.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Threads that wait spinning take processor time from the camera and from gRPC on a machine of few cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    providers = _providers(config.providers)
    if CUDA in providers:
        _load_cuda()
    try:
        return OnnxRuntime(ort.InferenceSession(str(path), options, providers=providers))
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    except Exception as error:  # ONNX Runtime's errors share no base class
        raise ModelError(f"{path}: ONNX Runtime cannot load it: {error}") from error


def available_providers() -> list[str]:
    """The execution providers of the installed ONNX Runtime."""
    return list(ort.get_available_providers())


def runtime_name() -> str:
    """The library and its version, as in `onnxruntime 1.32.0`."""
    return f"onnxruntime {ort.__version__}"


def check_providers(config: SessionConfig, key: str) -> None:
    """Refuse execution providers that are not here. `key` is the configuration's, of `config`.

    Raises:
        ConfigError: names the key and the providers that there are.
    """
    available = available_providers()
    for index, provider in enumerate(config.providers):
        if provider not in available and config.providers != ("auto",):
            raise ConfigError(
                f"{key}.providers[{index}]: {provider!r} is not in this onnxruntime, which has "
                f"{', '.join(available)}; or write [auto]{did_you_mean(provider, available)}"
            )


def quantization_tools() -> ModuleType:
    """The package `onnxruntime.quantization`, which needs `onnx`: for the workbench alone."""
    from onnxruntime import quantization

    tools: ModuleType = quantization
    return tools


def _error_of(error: Exception) -> ModelError:
    """Whose fault a failed run is, as far as ONNX Runtime lets that be known.

    InvalidArgument is what kernels raise for values, such as an index out of range. Fail and RuntimeException
    are both what they raise for values and shapes (Reshape, Add, Concat, Cast), and what memory and devices
    end in; there only the text tells. A network that fails on every input looks like one that refuses each.
    """
    text = " ".join(str(error).split())
    of_values = isinstance(error, InvalidArgument) or (
        isinstance(error, (Fail, RuntimeException)) and _IN_A_NODE in text
    )
    if of_values and not _OF_THE_MACHINE.search(text):
        return InputRefusedError(f"the network refuses this input: {text}")
    return ModelError(f"ONNX Runtime failed: {text}")


def _load_cuda() -> None:
    """Load CUDA and cuDNN from their wheels where they are installed; messages go to standard error."""
    with contextlib.redirect_stdout(sys.stderr):
        ort.preload_dlls()


def _providers(wanted: Sequence[str]) -> list[str]:
    available = available_providers()
    if tuple(wanted) == ("auto",):
        return [provider for provider in (CUDA, CPU) if provider in available]
    if missing := [provider for provider in wanted if provider not in available]:
        raise ModelError(f"execution provider {missing[0]} is not in this onnxruntime; it has {available}")
    return list(wanted)


def _spec(arg: Any) -> TensorSpec:  # noqa: ANN401 - onnxruntime publishes no types
    if arg.type not in _DTYPES:
        raise ModelError(f"{arg.name} is of type {arg.type}, which cannot be served")
    shape = tuple(length if isinstance(length, int) else -1 for length in arg.shape)
    return TensorSpec(arg.name, _DTYPES[arg.type], shape)
