"""Encodes and decodes JPEG; the header is checked before any pixel is decoded.

Any JPEG becomes BGR: greyscale is repeated, CMYK converted. EXIF orientation is applied, so that the model
sees the picture upright as people do; boxes are then in pixels of the upright picture.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import cv2
import numpy as np

from spillover.common.errors import InvalidInputError
from spillover.common.geometry import FrameTransform
from spillover.common.jpeg import JpegHeader, count_scans, read_header
from spillover.common.types import Image, Region

_FLAGS: Mapping[int, int] = MappingProxyType(
    {
        1: cv2.IMREAD_COLOR,
        2: cv2.IMREAD_REDUCED_COLOR_2,
        4: cv2.IMREAD_REDUCED_COLOR_4,
        8: cv2.IMREAD_REDUCED_COLOR_8,
    }
)
REDUCTIONS = tuple(sorted(_FLAGS, reverse=True))
"""By how much a JPEG can be reduced while it is decoded, the most first."""


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """A JPEG and the transform from the frame to it.

    The scales of both axes differ a little, because the sent sides are whole pixels.
    """

    data: bytes
    transform: FrameTransform


def encode_jpeg(
    image: Image, quality: int, longest_side: int | None = None, region: Region | None = None
) -> EncodedImage:
    """Encode a BGR picture or a region of it, first shrunk to at most `longest_side` pixels a side.

    `quality` is 1..100. Never enlarges.
    """
    height, width = image.shape[:2]
    cut = FrameTransform.crop((width, height), region.left if region else 0, region.top if region else 0)
    if region:
        image = image[region.top : region.bottom, region.left : region.right]
        height, width = image.shape[:2]
    if longest_side is not None and max(height, width) > longest_side:
        scale = longest_side / max(height, width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise InvalidInputError(f"OpenCV cannot encode a picture of shape {image.shape}")
    shrunk = FrameTransform.resize((width, height), (image.shape[1], image.shape[0]))
    return EncodedImage(data.tobytes(), cut.compose(shrunk))


def middle_square(image: Image) -> Region:
    """The largest square in the middle; one side may be a pixel longer."""
    height, width = image.shape[:2]
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    return Region(left, top, width - left, height - top)


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """A BGR picture (H, W, 3) uint8, upright, and the transform from the picture that was sent to it."""

    image: Image
    transform: FrameTransform


def decode_jpeg(data: bytes, max_pixels: int) -> Image:
    """Decode a JPEG into BGR (H, W, 3) uint8.

    Raises:
        TooLargeError: the header claims more than `max_pixels`, or there are too many scans.
        InvalidInputError: empty, not a JPEG, damaged, or cut short.
    """
    header = read_header(data)
    header.check(max_pixels)
    count_scans(data, header)
    return decode_reduced(data, header).image


def decode_reduced(data: bytes, header: JpegHeader, reduction: int = 1) -> DecodedImage:
    """Decode a JPEG whose scans were counted, at 1/`reduction` (1, 2, 4, 8) of its size.

    Above 1 the inverse transform of each block gives fewer pixels, which is a good filter and far cheaper
    than all of them. Where `header.may_turn`, `reduction` must divide both sides: then no partial block lies
    at a side that turning makes the first one, and the sides tell whether the picture was turned.

    Raises:
        InvalidInputError: it cannot be decoded.
    """
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), _FLAGS[reduction])
    except cv2.error as error:
        raise InvalidInputError(f"JPEG cannot be decoded: {error.err}") from error
    if image is None:
        raise InvalidInputError(f"JPEG of {len(data)} bytes cannot be decoded")
    turned = image.shape[:2] != header.reduced(reduction)[::-1]
    sides = (header.height, header.width) if turned else (header.width, header.height)
    transform = FrameTransform(1 / reduction, 1 / reduction, 0.0, 0.0, *sides)
    return DecodedImage(image.astype(np.uint8, copy=False), transform)
