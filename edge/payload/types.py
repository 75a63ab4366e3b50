"""A frame in the form in which it leaves the device."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from spillover.common.images import EncodedImage
from spillover.common.model.preprocess import Geometry
from spillover.common.types import Detections, Prediction
from spillover.common.wire.tensors import Tensor
from spillover.edge.payload.crops import merged


@dataclass(frozen=True, slots=True)
class EncodedFeatures:
    """Features of one frame, and what leads boxes in the answer back to the frame; no pixels."""

    data: bytes
    head_sha256: str
    geometry: Geometry


@dataclass(frozen=True, slots=True, eq=False)
class EncodedTensor:
    """One frame as a network's input (1, ...), and what leads boxes in its output back to the frame.

    `picture` makes a JPEG of what the tensor was made from: a tensor that has to wait waits as that.
    """

    tensor: Tensor
    geometry: Geometry
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
    frame_width: int
    frame_height: int
    payload: Payload
    option: str = ""
    rest: Detections | None = None

    def in_frame_pixels(self, prediction: Prediction) -> Prediction:
        """Boxes arrive in pixels of what was sent; the frame may be larger, or begin elsewhere.

        Those of a crop are put together with the edge's beside it.
        """
        if not isinstance(prediction, Detections) or isinstance(self.payload, EncodedTensor):
            return prediction  # a tensor's output is decoded here, straight into pixels of the frame
        if isinstance(self.payload, EncodedFeatures):
            xyxy = self.payload.geometry.to_frame(prediction.xyxy)
        else:
            sent = self.payload
            scale = np.array([sent.scale_x, sent.scale_y] * 2, np.float32)
            offset = np.array([sent.offset_x, sent.offset_y] * 2, np.float32)
            limit = np.array([self.frame_width, self.frame_height] * 2, np.float32)
            xyxy = np.clip(prediction.xyxy / scale + offset, 0, limit)
        found = Detections(xyxy, prediction.confidence, prediction.class_id)
        return found if self.rest is None else merged(found, self.rest)
