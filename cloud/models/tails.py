"""Tails of split networks: coded features in, predictions out. Each cut's tail has a batcher of its own."""

from collections.abc import Mapping
from dataclasses import dataclass

from spillover.cloud.executors.base import Executor
from spillover.cloud.executors.local import LocalExecutor
from spillover.cloud.models.vision import Undecoded
from spillover.common.errors import InvalidInputError
from spillover.common.features.codec import decode_features
from spillover.common.geometry import FrameTransform
from spillover.common.model.pictures import Placements, Prepared
from spillover.common.model.runtimes.onnxruntime import open_runtime
from spillover.common.model.session import PictureAdapter
from spillover.common.model.session_config import SessionConfig
from spillover.common.model.split import Cut, check_digest, has_split_plan, open_split_plan, tail_path
from spillover.common.types import Prediction, Tensor


class TailAdapter:
    """The adapter of the tail of one cut: coded features in."""

    def __init__(self, pictures: PictureAdapter, cut: Cut) -> None:
        self._pictures = pictures
        self._cut = cut
        spec = pictures.manifest.own_input
        # The edge knows where the frame lies in the network's input and takes the boxes from there.
        self._transform = FrameTransform.resize((spec.width, spec.height), (spec.width, spec.height))

    def look(self, payload: bytes) -> Undecoded:
        """Features of this cut: so many elements in, so many out, whatever the payload says."""
        elements = self._cut.elements
        return Undecoded(
            cost=elements,
            measure=lambda: elements,
            prepare=lambda: self._prepare(payload),
        )

    def _prepare(self, payload: bytes) -> Prepared:
        """Coded features to one row of each of the tail's inputs.

        Raises:
            TooLargeError: more elements than cross this cut; known from the header, before decoding.
            InvalidInputError: damaged, or not tensors of this cut's shapes.
        """
        tensors = decode_features(payload, self._cut.elements)
        shapes = [tensor.shape for tensor in tensors]
        if shapes != [seam.shape for seam in self._cut.seams]:
            raise InvalidInputError(f"features have shapes {shapes}, not those of cut {self._cut.name}")
        return tuple(tensor[None] for tensor in tensors), (self._transform,)

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
