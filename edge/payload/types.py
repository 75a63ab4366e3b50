"""A frame in the form in which it leaves the device."""

from collections.abc import Callable
from dataclasses import dataclass

from spillover.common.coding import StreamPosition
from spillover.common.geometry import FrameTransform
from spillover.common.images import EncodedImage
from spillover.common.types import Detections, Prediction, Tensor
from spillover.edge.payload.redaction import with_hidden


@dataclass(frozen=True, slots=True)
class EncodedFeatures:
    """Encoded features plus the transform that maps reply boxes to frame pixels. Contains no pixels.

    `position` is where they stand in a stream; None: they have no reference and become none. `alone()` gives
    the same features without a stream.
    """

    data: bytes
    head_sha256: str
    transform: FrameTransform
    position: StreamPosition | None = None
    alone: "Callable[[], EncodedFeatures] | None" = None


@dataclass(frozen=True, slots=True, eq=False)
class EncodedVideo:
    """One frame as the newest picture of a stream, with the packets before it that the server may lack.

    The last of `packets` has the position's number. `width` and `height` are those of the coded picture in
    pixels. `alone()` gives the same frame as JPEG.
    """

    packets: tuple[bytes, ...]
    position: StreamPosition
    width: int
    height: int
    transform: FrameTransform
    alone: Callable[[], EncodedImage]

    @property
    def data(self) -> bytes:
        """All packets, oldest first."""
        return b"".join(self.packets)


@dataclass(frozen=True, slots=True, eq=False)
class EncodedTensor:
    """One frame as a network's input (1, ...), and the transform from the frame to it.

    `alone()` gives the same frame as JPEG; the spool stores that instead of the larger tensor.
    """

    tensor: Tensor
    transform: FrameTransform
    alone: Callable[[], EncodedImage]

    @property
    def data(self) -> memoryview:
        """The tensor's bytes, without a copy."""
        return self.tensor.data.cast("B")


Payload = EncodedImage | EncodedFeatures | EncodedVideo | EncodedTensor


def is_key(payload: Payload) -> bool:
    """Whether it was coded as one that needs nothing before it; behind such a key more may be coded."""
    match payload:
        case EncodedVideo():
            return payload.position.is_key and len(payload.packets) == 1
        case EncodedFeatures():
            return payload.position is None or payload.position.is_key
        case _:
            return True


def position_of(payload: Payload) -> StreamPosition | None:
    """Where it stands in a stream; None: in none."""
    return payload.position if isinstance(payload, EncodedVideo | EncodedFeatures) else None


def behind_bytes(payload: Payload) -> int:
    """How much of it was sent before and is sent again."""
    return sum(map(len, payload.packets[:-1])) if isinstance(payload, EncodedVideo) else 0


def alone_of(payload: Payload) -> "Callable[[], Payload] | None":
    """What makes of this payload one that may wait; None where it may wait itself.

    One that waits needs nothing that was sent before, and no more room than a picture.
    """
    return None if isinstance(payload, EncodedImage) else payload.alone


@dataclass(frozen=True, slots=True, eq=False)
class EncodedFrame:
    """The payload of one frame, sent now or later, and what is needed to read the reply.

    `option` names the form of the payload, as `PayloadOption.name` does. `hidden` is that of the frame.
    """

    frame_id: str
    camera_id: str
    boot_id: str
    sequence: int
    captured_unix_s: float
    payload: Payload
    option: str = ""
    hidden: Detections | None = None

    def in_frame_pixels(self, prediction: Prediction) -> Prediction:
        """The answer in pixels of the frame, with the edge's boxes of what was hidden from the cloud.

        Answers decoded from a tensor's outputs are already in pixels of the frame.
        """
        if not isinstance(self.payload, EncodedTensor):
            prediction = prediction.in_frame(self.payload.transform)
        return prediction if self.hidden is None else with_hidden(prediction, self.hidden)
