"""The forms in which a frame can be sent."""

from dataclasses import dataclass
from typing import Protocol

from spillover.common.images import encode_jpeg
from spillover.common.types import Image
from spillover.common.wire.conversion import Features, InferenceRequest
from spillover.edge.payload.features import FeatureEncoder


@dataclass(frozen=True, slots=True)
class Sent:
    """A request, and the bytes of its payload."""

    request: InferenceRequest
    payload_bytes: int


class Form(Protocol):
    """Makes a request of a frame."""

    def make(self, image: Image) -> Sent:
        """Encode a BGR frame."""
        ...


@dataclass(frozen=True, slots=True)
class JpegForm:
    """The whole frame as a JPEG."""

    quality: int
    size: float

    def make(self, image: Image) -> Sent:
        """Shrink and compress."""
        data = encode_jpeg(image, self.quality, round(self.size * max(image.shape[:2]))).data
        return Sent(InferenceRequest(jpeg=data), len(data))


@dataclass(frozen=True, slots=True)
class FeaturesForm:
    """The features of one cut."""

    encoder: FeatureEncoder

    def make(self, image: Image) -> Sent:
        """Run the head and code."""
        encoded = self.encoder.encode(image)
        features = Features(encoded.head_sha256, encoded.data)
        return Sent(InferenceRequest(features=features), len(encoded.data))
