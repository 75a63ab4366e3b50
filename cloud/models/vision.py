"""A vision model: pictures in, predictions out, around a network that the batcher runs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from spillover.common.jpeg import count_scans, read_header
from spillover.common.model.manifest import Manifest
from spillover.common.model.pictures import Pictures, Placements, Prepared
from spillover.common.types import Image, Prediction, Tensor


@dataclass(frozen=True, slots=True)
class Undecoded:
    """A payload of which only the header was read. `measure` and `prepare` take long: for threads."""

    cost: int
    """An estimate of what decoding takes, in pixels visited; at least 1."""
    measure: Callable[[], int]
    """What decoding takes, `cost` or more. Raises InvalidInputError when that is too much."""
    prepare: Callable[[], Prepared]
    """Decodes; after `measure`. Raises InvalidInputError."""


class Adapter(Protocol):
    """Pre- and post-processing around a network: a payload in, a prediction out."""

    def look(self, payload: bytes) -> Undecoded:
        """Read the header of a payload; takes microseconds. Raises InvalidInputError."""
        ...

    def decode(self, outputs: list[Tensor], placements: Placements) -> Prediction:
        """One row of outputs to a prediction in pixels of what was sent. Raises ModelError."""
        ...


class Vision:
    """The adapter of a whole model: JPEGs in, and pictures that were decoded elsewhere."""

    def __init__(self, pictures: Pictures, max_pixels: int) -> None:
        self._pictures = pictures
        self._max_pixels = max_pixels

    @property
    def manifest(self) -> Manifest:
        """What `model.yaml` says."""
        return self._pictures.manifest

    @property
    def input_sides(self) -> tuple[int, int]:
        """Width and height in pixels that the network sees at most."""
        return self._pictures.folder.input_sides

    @property
    def max_pixels(self) -> int:
        """The largest picture that is decoded, width times height."""
        return self._max_pixels

    def prepare_picture(self, image: Image) -> Prepared:
        """A picture that is decoded already: BGR (H, W, 3) uint8."""
        return self._pictures.prepare_picture(image)

    def look(self, payload: bytes) -> Undecoded:
        """What a JPEG's header says. Its cost is pixels times scans.

        Raises:
            TooLargeError: more pixels than allowed, or, when measured, too many scans.
            InvalidInputError: empty, not a JPEG, damaged, or cut short.
        """
        header = read_header(payload)
        header.check(self._max_pixels)

        return Undecoded(
            cost=header.pixels,
            measure=lambda: header.pixels * count_scans(payload, header),
            prepare=lambda: self._pictures.prepare_rows(payload, header),
        )

    def decode(self, outputs: list[Tensor], placements: Placements) -> Prediction:
        """One row of outputs to a prediction in pixels of the picture that was sent. Raises ModelError."""
        return self._pictures.decode_rows(outputs, placements)
