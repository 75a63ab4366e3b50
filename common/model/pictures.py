"""Protocols of models that see pictures: one network or several fused, in memory or around an executor."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from spillover.common.geometry import FrameTransform
from spillover.common.jpeg import JpegHeader
from spillover.common.model.manifest import Manifest, ModelFolder
from spillover.common.types import Image, ModelId, Prediction, Tensor

Placements = Sequence[FrameTransform]
"""Where the picture lies in the input of each network."""
Prepared = tuple[Sequence[Tensor], Placements]
"""One row (1, ...) of each input, and where the picture lies in it."""
Run = Callable[[Sequence[Tensor]], list[Tensor]]


@dataclass(frozen=True, slots=True)
class StepTimings:
    """Seconds that each step of `VisionModel.predict` took."""

    preprocess_s: float
    infer_s: float
    decode_s: float


class Pictures(Protocol):
    """Pictures to the inputs of a runtime, its outputs to predictions; who runs it is not its matter."""

    @property
    def folder(self) -> ModelFolder:
        """What it was opened from."""
        ...

    @property
    def manifest(self) -> Manifest:
        """What `model.yaml` says."""
        ...

    def prepare_rows(self, data: bytes, header: JpegHeader) -> Prepared:
        """A JPEG whose header was checked, decoded no further than needed. Raises InvalidInputError."""
        ...

    def prepare_picture(self, image: Image) -> Prepared:
        """A BGR picture (H, W, 3) uint8, as those of a JPEG are prepared that is decoded in full."""
        ...

    def decode_rows(self, outputs: Sequence[Tensor], placements: Placements) -> Prediction:
        """One row (1, ...) of each output to a prediction in pixels of the picture. Raises ModelError."""
        ...

    def try_out(self, run: Run) -> None:
        """Run end to end on a black picture. Raises ModelError where decoder and network do not fit."""
        ...


class VisionModel(Protocol):
    """A model in memory: `Model` of one network, `Ensemble` of several. Several threads may use it."""

    @property
    def folder(self) -> ModelFolder:
        """What it was opened from."""
        ...

    @property
    def manifest(self) -> Manifest:
        """What `model.yaml` says."""
        ...

    @property
    def model_id(self) -> ModelId:
        """Name and version."""
        ...

    @property
    def class_count(self) -> int | None:
        """How many classes it knows; None where nothing says it."""
        ...

    def predict(self, image: Image) -> tuple[Prediction, StepTimings]:
        """Answer one BGR picture. Raises ModelError."""
        ...

    def predict_jpeg(self, data: bytes, max_pixels: int) -> Prediction:
        """What a server with this model answers to a JPEG.

        Raises:
            InvalidInputError: it cannot be decoded, or has more than `max_pixels`.
            ModelError: the model fails.
        """
        ...
