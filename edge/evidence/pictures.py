"""Makes the pictures that are kept of a frame: as it may be shown, and with what edge and cloud say of it."""

from collections.abc import Sequence

from spillover.common.images import decode_jpeg, encode_jpeg
from spillover.common.tasks.drawing import (
    GREEN,
    ORANGE,
    Name,
    Pen,
    caption,
    draw_boxes,
    draw_text,
    draw_tracks,
)
from spillover.common.types import Image, Prediction, Result

QUALITY = 88
_LINES = 1100
"""A picture of so many lines is drawn on at scale 1."""
_LEAST_SCALE = 0.35
_MOST_PIXELS = 1 << 28
"""More than a camera has; the JPEG is our own."""


def plain(image: Image) -> bytes:
    """The JPEG of a frame."""
    return encode_jpeg(image, QUALITY).data


def with_boxes(jpeg: bytes, local: Result, cloud: Prediction | None, labels: Sequence[str]) -> bytes:
    """The picture with the edge's answer in orange, and the cloud's in green where it is there.

    Tracks have the colour of who confirmed each last, dashed where they were carried.
    """
    image = decode_jpeg(jpeg, _MOST_PIXELS)
    scale = max(_LEAST_SCALE, image.shape[0] / _LINES)

    def name(class_id: int) -> str:
        return labels[class_id] if 0 <= class_id < len(labels) else str(class_id)

    boxes = local.prediction.boxes
    if boxes is not None and local.tracks is not None and cloud is None:
        draw_tracks(image, boxes, local.tracks, name, scale)
    else:
        _draw(image, local.prediction, name, Pen(ORANGE, scale), 0.0)
    if cloud is not None:
        _draw(image, cloud, name, Pen(GREEN, scale), 0.06)
    return plain(image)


def _draw(image: Image, prediction: Prediction, name: Name, pen: Pen, top: float) -> None:
    draw_boxes(image, prediction, name, pen)
    if words := caption(prediction, name):
        draw_text(image, (0, round(top * image.shape[0])), words, pen)
