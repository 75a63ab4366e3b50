"""A frame in the form in which it leaves the device."""

from collections.abc import Callable
from dataclasses import dataclass

from spillover.common.geometry import FrameTransform
from spillover.common.images import EncodedImage
from spillover.common.types import Detections, Prediction, Tensor
from spillover.edge.payload.redaction import with_hidden


@dataclass(frozen=True, slots=True)
class EncodedFeatures:
    """Encoded features plus the transform that maps reply boxes to frame pixels. Contains no pixels."""

    data: bytes
    head_sha256: str
    transform: FrameTransform


@dataclass(frozen=True, slots=True, eq=False)
class EncodedTensor:
    """One frame as a network's input (1, ...), and the transform from the frame to it.

    `picture()` gives the same frame as JPEG; the spool stores that instead of the larger tensor.
    """

    tensor: Tensor
    transform: FrameTransform
    picture: Callable[[], EncodedImage]

    @property
    def data(self) -> memoryview:
        """The tensor's bytes, without a copy."""
        return self.tensor.data.cast("B")


Payload = EncodedImage | EncodedFeatures | EncodedTensor


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
