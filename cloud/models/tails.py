"""Tails of split networks: coded features in, predictions out. Each cut's tail has a batcher of its own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from spillover.cloud.executors.base import Executor
from spillover.cloud.executors.local import LocalExecutor
from spillover.cloud.models.vision import Undecoded
from spillover.common.errors import InvalidInputError
from spillover.common.features.codec import decode_symbols
from spillover.common.features.quantized import Quantized
from spillover.common.geometry import FrameTransform
from spillover.common.model.pictures import Placements
from spillover.common.model.runtimes.onnxruntime import open_runtime
from spillover.common.model.session import PictureAdapter
from spillover.common.model.session_config import SessionConfig
from spillover.common.model.split import Cut, check_digest, has_split_plan, open_split_plan, tail_path
from spillover.common.types import Prediction, Tensor

_CHANNEL_BYTES, _TENSOR_BYTES = 64, 2048
"""What is kept beside symbols: clips and the order of channels, and objects."""


class TailAdapter:
    """The adapter of the tail of one cut: coded features in."""

    def __init__(self, pictures: PictureAdapter, cut: Cut) -> None:
        self._pictures = pictures
        self._cut = cut
        spec = pictures.manifest.own_input
        # The edge knows where the frame lies in the network's input and takes the boxes from there.
        self._transform = FrameTransform.resize((spec.width, spec.height), (spec.width, spec.height))

    @property
    def symbol_bytes(self) -> int:
        """What the symbols of one frame take at most: a byte each, and what is said of each channel."""
        channels = sum(seam.shape[0] for seam in self._cut.seams)
        return self._cut.elements + _CHANNEL_BYTES * channels + _TENSOR_BYTES * len(self._cut.seams)

    def look(self, payload: bytes) -> Undecoded:
        """Features of this cut: so many elements in, so many out, whatever the payload says."""
        return self.looking(lambda: self.symbols(payload))

    def looking(self, symbols: Callable[[], Quantized]) -> Undecoded:
        """As `look`, where the symbols come from elsewhere."""
        elements = self._cut.elements
        return Undecoded(
            cost=elements,
            measure=lambda: elements,
            prepare=lambda: (tuple(tensor[None] for tensor in symbols().tensors()), (self._transform,)),
        )

    def symbols(self, payload: bytes, reference: Quantized | None = None) -> Quantized:
        """The symbols of coded features, which may be changes to those of a reference.

        Raises:
            TooLargeError: more elements than cross this cut; known from the header, before decoding.
            InvalidInputError: damaged, not tensors of this cut's shapes, or not against this reference.
        """
        quantized = decode_symbols(payload, self._cut.elements, reference)
        shapes = [coding.shape for coding in quantized.codings]
        if shapes != [seam.shape for seam in self._cut.seams]:
            raise InvalidInputError(f"features have shapes {shapes}, not those of cut {self._cut.name}")
        return quantized

    def decode(self, outputs: list[Tensor], placements: Placements) -> Prediction:
        """One row of outputs to a prediction in pixels of the network's input. Raises ModelError."""
        return self._pictures.decode_rows(outputs, placements)


@dataclass(frozen=True, slots=True)
class Tail:
    """A tail in memory, not serving yet."""

    executor: Executor
    adapter: TailAdapter


def open_tails(pictures: PictureAdapter, session: SessionConfig) -> Mapping[str, Tail]:
    """The tails of a model by the digests of their heads; none when the model has not been split.

    Raises:
        ModelError: the split plan is of another network, or a tail is missing, damaged or cannot be run.
    """
    if not has_split_plan(pictures.folder.path):
        return {}
    plan = open_split_plan(pictures.folder)
    return {cut.head_sha256: _open_tail(pictures, cut, session) for cut in plan.cuts}


def _open_tail(pictures: PictureAdapter, cut: Cut, session: SessionConfig) -> Tail:
    path = tail_path(pictures.folder.path, cut.name)
    check_digest(path, cut.tail_sha256)
    executor = LocalExecutor(pictures.model_id, open_runtime(path, session))
    executor.warm_up(1)
    return Tail(executor, TailAdapter(pictures, cut))
