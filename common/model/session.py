"""A model in memory: one ONNX Runtime session with its preprocessing and decoder.

The three steps stand apart (`prepare`, `run`, `decode`) because the server batches the middle one; `predict`
is the three in a row for a single picture.
"""

import contextlib
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort

from spillover.common.errors import ModelError
from spillover.common.geometry import FrameTransform
from spillover.common.model.decoders import decoder_for
from spillover.common.model.manifest import Layout, ModelFolder, open_model_folder
from spillover.common.model.preprocess import preprocess
from spillover.common.model.session_config import SessionConfig
from spillover.common.types import FloatArray, Image, ModelId, Prediction


@dataclass(frozen=True, slots=True)
class StepTimings:
    """Seconds that each step of `Model.predict` took."""

    preprocess_s: float
    infer_s: float
    decode_s: float


class Model:
    """A loaded model. Thread-safe: ONNX Runtime sessions may be run from several threads at once.

    Raises:
        ModelError: ONNX Runtime refuses the file, or it does not fit its manifest.
    """

    def __init__(self, folder: ModelFolder, config: SessionConfig | None = None) -> None:
        config = config or SessionConfig()
        self.folder = folder
        self.manifest = folder.manifest
        self._decoder = decoder_for(folder.manifest, folder.task)
        self.session = open_session(folder.onnx_path, config)
        self._input_name, self.fixed_batch_size = self._check_input()
        self._output_names = [output.name for output in self.session.get_outputs()]
        self.class_count = self._check_classes()
        self._warm_up(config.warm_up_runs)

    @classmethod
    def load(cls, path: Path, config: SessionConfig | None = None) -> "Model":
        """Open, check and load the model folder at `path`. Raises ModelError."""
        return cls(open_model_folder(path), config)

    @property
    def model_id(self) -> ModelId:
        """Name and version."""
        return self.folder.model_id

    @property
    def providers(self) -> tuple[str, ...]:
        """The execution providers that ONNX Runtime really uses."""
        return tuple(self.session.get_providers())

    def prepare(self, image: Image) -> tuple[FloatArray, FrameTransform]:
        """Turn a BGR picture into one input tensor (no batch axis) and where the picture lies in it."""
        return preprocess(image, self.manifest.input)

    def run(self, batch: FloatArray) -> list[FloatArray]:
        """Run inputs (N, ...) and return the outputs, each (N, ...).

        N may be anything; a network whose batch axis is fixed is run that many pictures at a time.

        Raises:
            ModelError: ONNX Runtime fails.
        """
        size = self.fixed_batch_size
        if size is None or len(batch) == size:
            return self._run(batch)
        parts = [self._run_padded(batch[start : start + size], size) for start in range(0, len(batch), size)]
        return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]

    def decode(self, outputs: Sequence[FloatArray], index: int, transform: FrameTransform) -> Prediction:
        """Decode picture `index` of a batch's outputs. Raises ModelError when the shapes do not fit."""
        return self._decoder([output[index] for output in outputs], transform)

    def predict(self, image: Image) -> tuple[Prediction, StepTimings]:
        """Prepare, run and decode one BGR picture."""
        start = time.perf_counter()
        tensor, transform = self.prepare(image)
        prepared = time.perf_counter()
        outputs = self.run(tensor[None])
        ran = time.perf_counter()
        prediction = self.decode(outputs, 0, transform)
        done = time.perf_counter()
        return prediction, StepTimings(prepared - start, ran - prepared, done - ran)

    def _run(self, batch: FloatArray) -> list[FloatArray]:
        try:
            outputs: list[FloatArray] = self.session.run(self._output_names, {self._input_name: batch})
        except Exception as error:
            raise ModelError(f"model {self.model_id}: ONNX Runtime failed: {error}") from error
        return outputs

    def _run_padded(self, part: FloatArray, size: int) -> list[FloatArray]:
        missing = size - len(part)
        padded = np.concatenate([part, np.zeros((missing, *part.shape[1:]), part.dtype)]) if missing else part
        return [output[: len(part)] for output in self._run(padded)]

    def _check_input(self) -> tuple[str, int | None]:
        """The input's name and its fixed batch size (None when dynamic)."""
        inputs = self.session.get_inputs()
        spec = self.manifest.input
        if len(inputs) != 1 or inputs[0].type != "tensor(float)":
            found = ", ".join(f"{i.name}: {i.type}{i.shape}" for i in inputs)
            raise ModelError(f"model {self.model_id}: needs exactly one float input, has {found}")
        plane = [spec.height, spec.width]
        wanted = [3, *plane] if spec.layout is Layout.NCHW else [*plane, 3]
        batch, *shape = inputs[0].shape or [None]
        if len(shape) != 3 or any(isinstance(n, int) and n != w for n, w in zip(shape, wanted, strict=True)):
            raise ModelError(
                f"model {self.model_id}: input is {inputs[0].shape}, model.yaml says [N, {wanted}]"
            )
        return inputs[0].name, batch if isinstance(batch, int) else None

    def _check_classes(self) -> int | None:
        """How many classes the network knows; None where its file does not say.

        Raises:
            ModelError: the labels are of another number, so every name after the gap would be wrong.
        """
        count = self._decoder.head.class_count(self.session.get_outputs()[0].shape[1:])
        named = len(self.folder.labels)
        if named and count is not None and named != count:
            raise ModelError(
                f"model {self.model_id}: {self.manifest.labels} has {named} lines, "
                f"the network {count} classes"
            )
        return count

    def _warm_up(self, runs: int) -> None:
        """Run end to end on a black picture; a decoder that does not fit the network shows itself here."""
        spec = self.manifest.input
        black = np.zeros((spec.height, spec.width, 3), np.uint8)
        for _ in range(runs):
            self.predict(black)


def open_session(path: Path, config: SessionConfig) -> ort.InferenceSession:
    """Load the network at `path`. Raises ModelError when ONNX Runtime cannot."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = config.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Spinning threads look idle to nobody: on two cores they take time from the camera and from gRPC.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers = _providers(config.providers)
    if "CUDAExecutionProvider" in providers:
        _load_cuda()
    try:
        return ort.InferenceSession(str(path), options, providers=providers)
    except Exception as error:
        raise ModelError(f"{path}: ONNX Runtime cannot load it: {error}") from error


def _load_cuda() -> None:
    """Load CUDA and cuDNN from their wheels, where they are; what it prints belongs to the log."""
    with contextlib.redirect_stdout(sys.stderr):
        ort.preload_dlls()


def _providers(wanted: Sequence[str]) -> list[str]:
    available = ort.get_available_providers()
    if tuple(wanted) == ("auto",):
        return [p for p in ("CUDAExecutionProvider", "CPUExecutionProvider") if p in available]
    if missing := [p for p in wanted if p not in available]:
        raise ModelError(f"execution provider {missing[0]} is not in this onnxruntime; it has {available}")
    return list(wanted)
