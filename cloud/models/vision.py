"""A vision model: pictures in, predictions out, around a network that the batcher runs."""

from collections.abc import Sequence
from typing import Protocol

from spillover.common.geometry import FrameTransform
from spillover.common.images import decode_jpeg
from spillover.common.model.manifest import Manifest
from spillover.common.model.session import PictureAdapter
from spillover.common.types import Prediction, Tensor


class Adapter(Protocol):
    """Pre- and post-processing around a network: a payload in, a prediction out. Called on threads."""

    def prepare(self, payload: bytes) -> tuple[Sequence[Tensor], FrameTransform]:
        """A payload to one row of each input, and where the picture lies in it. Raises InvalidInputError."""
        ...

    def decode(self, outputs: list[Tensor], transform: FrameTransform) -> Prediction:
        """One row of outputs to a prediction in pixels of what was sent. Raises ModelError."""
        ...


class Vision:
    """The adapter of a whole network: JPEGs in."""

    def __init__(self, pictures: PictureAdapter, max_pixels: int) -> None:
        self._pictures = pictures
        self._max_pixels = max_pixels

    @property
    def manifest(self) -> Manifest:
        """What `model.yaml` says."""
        return self._pictures.manifest

    def prepare(self, payload: bytes) -> tuple[Sequence[Tensor], FrameTransform]:
        """A JPEG to one row of input (1, ...) and where the picture lies in it.

        Raises:
            TooLargeError: more pixels than allowed; known from the header, before decoding.
            InvalidInputError: empty, not a JPEG, or cut short.
        """
        tensor, transform = self._pictures.prepare(decode_jpeg(payload, self._max_pixels))
        return (tensor[None],), transform

    def decode(self, outputs: list[Tensor], transform: FrameTransform) -> Prediction:
        """One row of outputs to a prediction in pixels of the picture that was sent. Raises ModelError."""
        return self._pictures.decode(outputs, 0, transform)  # type: ignore[arg-type]  # the manifest says float32
