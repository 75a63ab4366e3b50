"""Output tensors to predictions. One small Protocol, one table; a new head is one function and one line."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from spillover.common.errors import ModelError
from spillover.common.model.decoders.classification import decode_logits, decode_softmax
from spillover.common.model.decoders.detection import decode_fastestdet, decode_yolov8, decode_yolox
from spillover.common.model.manifest import Manifest, Task
from spillover.common.model.preprocess import Geometry
from spillover.common.types import FloatArray, Prediction


class Decoder(Protocol):
    """Turns the outputs for one picture (no batch axis) into a prediction in frame pixels."""

    def __call__(self, outputs: Sequence[FloatArray], manifest: Manifest, geometry: Geometry) -> Prediction:
        """Decode; raises ModelError when the shapes are not this head's."""
        ...


@dataclass(frozen=True, slots=True)
class Head:
    """What a decoder reads: for which task, and where the first output has its classes.

    `class_axis` is None where every element is a class; else `other` elements of that axis are none.
    """

    task: Task
    class_axis: int | None = None
    other: int = 0

    def class_count(self, shape: Sequence[object]) -> int | None:
        """Classes in an output of this shape (no batch axis); None where a length that counts is free."""
        counted = shape if self.class_axis is None else shape[self.class_axis :][:1]
        lengths = [length for length in counted if isinstance(length, int)]
        return math.prod(lengths) - self.other if lengths and len(lengths) == len(counted) else None


HEADS: Mapping[str, Head] = MappingProxyType(
    {
        "softmax": Head(Task.CLASSIFICATION),
        "logits": Head(Task.CLASSIFICATION),
        "yolox": Head(Task.DETECTION, class_axis=1, other=5),
        "fastestdet": Head(Task.DETECTION, class_axis=0, other=5),
        "yolov8": Head(Task.DETECTION, class_axis=0, other=4),
    }
)

DECODERS: Mapping[str, Decoder] = MappingProxyType(
    {
        "softmax": decode_softmax,
        "logits": decode_logits,
        "yolox": decode_yolox,
        "fastestdet": decode_fastestdet,
        "yolov8": decode_yolov8,
    }
)


def decoder_for(manifest: Manifest) -> Decoder:
    """The decoder that the manifest names.

    Raises:
        ModelError: there is none of that name, or it is one for the other task.
    """
    name = manifest.output.decoder
    if name not in DECODERS:
        known = ", ".join(sorted(DECODERS))
        raise ModelError(f"model {manifest.name}: output.decoder is {name!r}; known are {known}")
    if (gives := HEADS[name].task) is not manifest.task:
        raise ModelError(
            f"model {manifest.name}: output.decoder {name!r} is for {gives.value}, "
            f"but task is {manifest.task.value}"
        )
    return DECODERS[name]
