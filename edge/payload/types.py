"""A frame in the form in which it leaves the device."""

from collections.abc import Callable
from dataclasses import dataclass

from spillover.common.geometry import FrameTransform
from spillover.common.images import EncodedImage
from spillover.common.types import Detections, Prediction, Tensor


@dataclass(frozen=True, slots=True)
class EncodedFeatures:
    """Features of one frame, and where it lies in the input of the network they come from; no pixels."""

    data: bytes
    head_sha256: str
    transform: FrameTransform


@dataclass(frozen=True, slots=True, eq=False)
class EncodedTensor:
    """One frame as a network's input (1, ...), and where it lies in it.

    `picture` makes a JPEG of what the tensor was made from: a tensor that has to wait waits as that.
    """

    tensor: Tensor
    transform: FrameTransform
    picture: Callable[[], EncodedImage]

    @property
    def data(self) -> memoryview:
        """The tensor's bytes."""
        return self.tensor.data.cast("B")


Payload = EncodedImage | EncodedFeatures | EncodedTensor


@dataclass(frozen=True, slots=True, eq=False)
class EncodedFrame:
    """What leaves the device for one frame, now or later: the payload, and what a reply to it needs.

    `option` names the form of the payload, as `PayloadOption.name` does. `rest` is None but for a crop: the
    edge's boxes beside it, as `edge.payload.crops.Crop` has them.
    """

    frame_id: str
    camera_id: str
    boot_id: str
    sequence: int
    captured_unix_s: float
    payload: Payload
    option: str = ""
    rest: Detections | None = None

    def in_frame_pixels(self, prediction: Prediction) -> Prediction:
        """The answer in pixels of the frame; that to a crop together with the edge's boxes beside it.

        What was decoded from the outputs for a tensor is in pixels of the frame already.
        """
        if not isinstance(self.payload, EncodedTensor):
            prediction = prediction.in_frame(self.payload.transform)
        return prediction if self.rest is None else prediction.merged(self.rest)
