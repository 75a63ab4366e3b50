"""A vision model: pictures in, predictions out, around a network that the batcher runs."""

from collections.abc import Sequence
from typing import Protocol

from spillover.common.geometry import FrameTransform
from spillover.common.images import decode_jpeg
from spillover.common.model.manifest import Manifest
from spillover.common.model.session import Model
from spillover.common.types import Prediction
from spillover.common.wire.tensors import Tensor


class Adapter(Protocol):
    """What stands around a network: a payload in, a prediction out. Called on the threads of the executor."""

    def prepare(self, payload: bytes) -> tuple[Sequence[Tensor], FrameTransform]:
        """A payload to one row of each input, and the geometry of what was sent. Raises InvalidInputError."""
        ...

    def decode(self, outputs: list[Tensor], geometry: FrameTransform) -> Prediction:
        """One row of outputs to a prediction in pixels of what was sent. Raises ModelError."""
        ...


class Vision:
    """What happens before and after the network, both on the threads of the executor."""

    def __init__(self, model: Model, max_pixels: int) -> None:
        self._model = model
        self._max_pixels = max_pixels

    @property
    def manifest(self) -> Manifest:
        """What `model.yaml` says."""
        return self._model.manifest

    def prepare(self, payload: bytes) -> tuple[Sequence[Tensor], FrameTransform]:
        """A JPEG to one row of input (1, ...) and the geometry that leads back.

        Raises:
            TooLargeError: more pixels than allowed; known from the header, before decoding.
            InvalidInputError: empty, not a JPEG, or cut short.
        """
        tensor, geometry = self._model.prepare(decode_jpeg(payload, self._max_pixels))
        return (tensor[None],), geometry

    def decode(self, outputs: list[Tensor], geometry: FrameTransform) -> Prediction:
        """One row of outputs to a prediction in pixels of the picture that was sent. Raises ModelError."""
        return self._model.decode(outputs, 0, geometry)  # type: ignore[arg-type]  # the manifest says float32
