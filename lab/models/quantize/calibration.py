"""Feeds calibration pictures to ONNX Runtime one at a time: memory does not grow with their number."""

from collections.abc import Sequence

import onnx

from spillover.common.model.manifest import Input
from spillover.common.model.preprocess import preprocess
from spillover.common.types import Tensor
from spillover.lab.data.pictures import Picture
from spillover.lab.terminal import Progress

HISTOGRAM_BUDGET_BYTES = 256 * 1024**2


class PictureReader:
    """Feeds pictures to a calibrator as input tensors (1, ...), reading each when its turn comes.

    ONNX Runtime takes any object with these methods for a `CalibrationDataReader`.

    ONNX Runtime's histogram methods keep every activation of every picture until the end of a range;
    `set_range` sets short ranges, after which they update the histograms and free the activations.
    """

    def __init__(self, pictures: Sequence[Picture], input_name: str, spec: Input, progress: Progress) -> None:
        self._count = len(pictures)
        self._input_name = input_name
        self._spec = spec
        self._turn = iter(progress.track(pictures, "calibrating"))
        self._left = self._count + 1

    def __len__(self) -> int:
        return self._count

    def set_range(self, start_index: int, end_index: int) -> None:
        """Give the next `end - start` pictures and then None; ranges follow each other to the end."""
        self._left = end_index - start_index + (end_index == self._count)

    def get_next(self) -> dict[str, Tensor] | None:
        """The next picture as `{input name: tensor}`, None behind the last. Raises SourceError."""
        picture = next(self._turn, None) if self._left else None
        self._left -= 1
        if picture is None:
            return None
        tensor, _ = preprocess(picture.image(), self._spec)
        return {self._input_name: tensor[None]}


def chunk_of(graph: onnx.GraphProto, pictures: int) -> int:
    """Pictures whose activations together stay below `HISTOGRAM_BUDGET_BYTES`, at least 1."""
    per_picture = sum(_elements(value) * 4 for value in graph.value_info)
    return max(1, min(pictures, HISTOGRAM_BUDGET_BYTES // max(1, per_picture)))


def _elements(value: onnx.ValueInfoProto) -> int:
    """Elements of a tensor for one picture; a dynamic axis counts as 1."""
    count = 1
    for axis in value.type.tensor_type.shape.dim:
        count *= axis.dim_value or 1
    return count
