"""Output tensors to predictions. One small Protocol, one table; a new head is one function and one line."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

from common.errors import ModelError
from common.model.decoders.classification import decode_logits, decode_softmax
from common.model.decoders.detection import decode_fastestdet, decode_yolov8, decode_yolox
from common.model.manifest import Manifest
from common.model.preprocess import Geometry
from common.types import FloatArray, Prediction


class Decoder(Protocol):
    """Turns the outputs for one picture (no batch axis) into a prediction in frame pixels."""

    def __call__(self, outputs: Sequence[FloatArray], manifest: Manifest, geometry: Geometry) -> Prediction:
        """Decode; raises ModelError when the shapes are not this head's."""
        ...


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
        ModelError: there is none of that name.
    """
    try:
        return DECODERS[manifest.output.decoder]
    except KeyError:
        known = ", ".join(sorted(DECODERS))
        raise ModelError(
            f"model {manifest.name}: output.decoder is {manifest.output.decoder!r}; known are {known}"
        ) from None
