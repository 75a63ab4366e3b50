"""A model: its network in a runtime, with the preprocessing and the decoder that model.yaml describes.

The three steps (`prepare`, `run`, `decode`) are methods of their own because the server batches the middle
one; `predict` is the three in a row for a single picture.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from spillover.common.errors import ModelError
from spillover.common.geometry import FrameTransform
from spillover.common.jpeg import JpegHeader
from spillover.common.model.decoders import decoder_for
from spillover.common.model.manifest import Layout, ModelFolder, open_model_folder
from spillover.common.model.pictures import Placements, Prepared, Run, StepTimings
from spillover.common.model.preprocess import preprocess, preprocess_checked, preprocess_jpeg
from spillover.common.model.runtimes.base import TensorSpec
from spillover.common.model.runtimes.onnxruntime import open_runtime
from spillover.common.model.session_config import SessionConfig
from spillover.common.types import FloatArray, Image, ModelId, Prediction, Tensor


class PictureAdapter:
    """Pictures to the input of a network, its outputs to predictions. It does not hold the network.

    Raises:
        ModelError: a network with these `inputs` and `outputs` does not fit its manifest.
    """

    def __init__(
        self, folder: ModelFolder, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
    ) -> None:
        self.folder = folder
        self.manifest = folder.manifest
        self._decoder = decoder_for(folder.manifest, folder.task, folder.anchors)
        self.fixed_batch_size = self._check_input(inputs)
        self.class_count = self._check_classes(outputs)

    @property
    def model_id(self) -> ModelId:
        """Name and version."""
        return self.folder.model_id

    def prepare(self, image: Image) -> tuple[Tensor, FrameTransform]:
        """Turn a BGR picture into one input tensor (no batch axis) and where the picture lies in it."""
        return preprocess(image, self.manifest.own_input)

    def decode(self, outputs: Sequence[FloatArray], index: int, transform: FrameTransform) -> Prediction:
        """Decode picture `index` of a batch's outputs. Raises ModelError when the shapes do not fit."""
        return self._decoder([output[index] for output in outputs], transform)

    def prepare_rows(self, data: bytes, header: JpegHeader) -> Prepared:
        """A JPEG whose header was checked as a batch of one, and where it lies in it.

        Raises:
            InvalidInputError: it cannot be decoded.
        """
        tensor, transform = preprocess_checked(data, header, self.manifest)
        return (tensor[None],), (transform,)

    def prepare_picture(self, image: Image) -> Prepared:
        """As `prepare`, as a batch of one."""
        tensor, transform = self.prepare(image)
        return (tensor[None],), (transform,)

    def decode_rows(self, outputs: Sequence[Tensor], placements: Placements) -> Prediction:
        """Decode a batch of one. Raises ModelError when the shapes do not fit."""
        (placement,) = placements
        return self.decode(outputs, 0, placement)  # type: ignore[arg-type]  # decoders check what they get

    def run_padded(self, run: Run, batch: Tensor) -> list[FloatArray]:
        """Run inputs (N, ...) through `run` and return the outputs, each (N, ...).

        N may be anything; a network whose batch axis is fixed is run that many pictures at a time.

        Raises:
            ModelError: the network fails.
        """
        size = self.fixed_batch_size
        if size is None or len(batch) == size:
            return self._run(run, batch)
        parts = [self._fill(run, batch[start : start + size], size) for start in range(0, len(batch), size)]
        return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]

    def try_out(self, run: Run) -> None:
        """Run end to end on a black picture: a decoder that does not fit the network raises ModelError."""
        spec = self.manifest.own_input
        tensor, transform = self.prepare(np.zeros((spec.height, spec.width, 3), np.uint8))
        self.decode(self.run_padded(run, tensor[None]), 0, transform)

    def _fill(self, run: Run, part: Tensor, size: int) -> list[FloatArray]:
        missing = size - len(part)
        padded = np.concatenate([part, np.zeros((missing, *part.shape[1:]), part.dtype)]) if missing else part
        return [output[: len(part)] for output in self._run(run, padded)]

    def _run(self, run: Run, batch: Tensor) -> list[FloatArray]:
        try:
            return run([batch])  # type: ignore[return-value]  # decoders check what they get
        except ModelError as error:
            raise ModelError(f"model {self.model_id}: {error}") from error

    def _check_input(self, inputs: Sequence[TensorSpec]) -> int | None:
        """The input's fixed batch size (None when dynamic)."""
        spec = self.manifest.own_input
        if len(inputs) != 1 or inputs[0].dtype != spec.element.value:
            found = ", ".join(f"{one.name}: {one.dtype}{list(one.shape)}" for one in inputs)
            raise ModelError(
                f"model {self.model_id}: needs exactly one input, {spec.element.value} by `input.element` of "
                f"model.yaml; the network has {found}"
            )
        plane, channels = (spec.height, spec.width), spec.colour.channels
        wanted = (channels, *plane) if spec.layout is Layout.NCHW else (*plane, channels)
        batch, *shape = inputs[0].shape or (-1,)
        if len(shape) != 3 or any(have not in (-1, want) for have, want in zip(shape, wanted, strict=True)):
            raise ModelError(
                f"model {self.model_id}: input is {list(inputs[0].shape)}, "
                f"model.yaml says [N, {', '.join(map(str, wanted))}] (input.height, width, layout, colour)"
            )
        return batch if batch >= 0 else None

    def _check_classes(self, outputs: Sequence[TensorSpec]) -> int | None:
        """How many classes the network knows; None where its file does not say.

        Raises:
            ModelError: the labels are of another number, so every name after the gap would be wrong.
        """
        count = self._decoder.head.class_count([None if axis < 0 else axis for axis in outputs[0].shape[1:]])
        named = len(self.folder.labels)
        if named and count is not None and named != count:
            raise ModelError(
                f"model {self.model_id}: {self.manifest.labels} has {named} lines, "
                f"the network {count} classes"
            )
        return count


class Model(PictureAdapter):
    """A model in memory. Thread-safe, as its runtime is.

    Raises:
        ModelError: the runtime refuses the file, or the network does not fit its manifest.
    """

    def __init__(self, folder: ModelFolder, config: SessionConfig | None = None) -> None:
        config = config or SessionConfig()
        self._runtime = open_runtime(folder.onnx_path, config)
        self.outputs = self._runtime.outputs
        super().__init__(folder, self._runtime.inputs, self.outputs)
        for _ in range(config.warm_up_runs):
            self.try_out(self._runtime.run)

    @classmethod
    def load(cls, path: Path, config: SessionConfig | None = None) -> "Model":
        """Open, check and load the model folder at `path`. Raises ModelError."""
        return cls(open_model_folder(path), config)

    def run(self, batch: Tensor) -> list[FloatArray]:
        """Run inputs (N, ...) and return the outputs, each (N, ...). Raises ModelError."""
        return self.run_padded(self._runtime.run, batch)

    def predict(self, image: Image) -> tuple[Prediction, StepTimings]:
        """Prepare, run and decode one BGR picture."""
        return self._predict(partial(self.prepare, image))

    def predict_jpeg(self, data: bytes, max_pixels: int) -> Prediction:
        """What a server with this model answers to a JPEG.

        Raises:
            InvalidInputError: it cannot be decoded, or has more than `max_pixels`.
        """
        return self._predict(partial(preprocess_jpeg, data, max_pixels, self.manifest))[0]

    def _predict(
        self, prepare: Callable[[], tuple[Tensor, FrameTransform]]
    ) -> tuple[Prediction, StepTimings]:
        start = time.perf_counter()
        tensor, transform = prepare()
        prepared = time.perf_counter()
        outputs = self.run(tensor[None])
        ran = time.perf_counter()
        prediction = self.decode(outputs, 0, transform)
        done = time.perf_counter()
        return prediction, StepTimings(prepared - start, ran - prepared, done - ran)
