"""The transform between a frame and a crop, smaller picture or network input made from it, both ways."""

import msgspec
import numpy as np
import numpy.typing as npt

Boxes = npt.NDArray[np.float32]


class FrameTransform(msgspec.Struct, frozen=True, array_like=True):
    """`sent_xy = frame_xy * scale + offset`, in pixels, with a scale and an offset for each axis.

    Every crop, resize and letterbox is such a transform, and so is any sequence of them.
    """

    scale_x: float
    scale_y: float
    offset_x: float
    offset_y: float
    frame_width: int
    frame_height: int

    @classmethod
    def resize(cls, frame: tuple[int, int], sent: tuple[int, int]) -> "FrameTransform":
        """A frame of (width, height) pixels stretched to `sent`; equal sizes change nothing."""
        (width, height), (sent_width, sent_height) = frame, sent
        return cls(sent_width / width, sent_height / height, 0.0, 0.0, width, height)

    @classmethod
    def crop(cls, frame: tuple[int, int], left: int, top: int) -> "FrameTransform":
        """The part of a frame of (width, height) pixels that begins at `left`, `top`."""
        return cls(1.0, 1.0, -left, -top, *frame)

    def compose(self, then: "FrameTransform") -> "FrameTransform":
        """This transform followed by `then`; `to_frame` of the result maps to this transform's frame."""
        return FrameTransform(
            self.scale_x * then.scale_x,
            self.scale_y * then.scale_y,
            self.offset_x * then.scale_x + then.offset_x,
            self.offset_y * then.scale_y + then.offset_y,
            self.frame_width,
            self.frame_height,
        )

    def to_sent(self, xyxy: Boxes) -> Boxes:
        """Map boxes (N, 4) float32 from frame pixels to pixels of the derived picture, not clipped."""
        scale, offset = self._factors()
        return xyxy * scale + offset

    def to_frame(self, xyxy: Boxes) -> Boxes:
        """Map boxes (N, 4) float32 from pixels of the derived picture to the frame, clipped to it."""
        scale, offset = self._factors()
        limit = np.array([self.frame_width, self.frame_height] * 2, np.float32)
        boxes: Boxes = np.clip((xyxy - offset) / scale, 0, limit)
        return boxes

    def _factors(self) -> tuple[Boxes, Boxes]:
        scale = np.array([self.scale_x, self.scale_y] * 2, np.float32)
        return scale, np.array([self.offset_x, self.offset_y] * 2, np.float32)
