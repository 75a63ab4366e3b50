"""Encodes and decodes JPEG, and checks the header before decoding any pixel.

Any JPEG becomes BGR: greyscale is repeated, CMYK converted. EXIF orientation is applied, so that the model
sees the picture upright as people do; boxes are then in pixels of the upright picture.
"""

import struct
from dataclasses import dataclass

import cv2
import numpy as np

from spillover.common.errors import InvalidInputError, TooLargeError
from spillover.common.geometry import FrameTransform
from spillover.common.types import Image, Region

# Start-of-frame markers of ITU-T T.81, table B.1: all SOFn but DHT (C4), JPG (C8) and DAC (CC).
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})


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


def decode_jpeg(data: bytes, max_pixels: int) -> Image:
    """Decode a JPEG into BGR (H, W, 3) uint8.

    Raises:
        TooLargeError: the header claims more than `max_pixels`.
        InvalidInputError: empty, not a JPEG, or truncated.
    """
    width, height, header_bytes = _read_header(data)
    if width * height > max_pixels:
        raise TooLargeError(f"picture is {width}x{height} pixels; the limit is {max_pixels} pixels in all")
    if data.rfind(b"\xff\xd9", header_bytes) < 0:
        # OpenCV fills the missing part with grey without an error; a wrong answer is worse than none.
        raise InvalidInputError(f"JPEG is cut short: no end marker in {len(data)} bytes")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise InvalidInputError(f"JPEG cannot be decoded: {error.err}") from error
    if image is None:
        raise InvalidInputError(f"JPEG of {len(data)} bytes cannot be decoded")
    return image.astype(np.uint8, copy=False)


def _read_header(data: bytes) -> tuple[int, int, int]:
    """Width, height, and the length of the header in bytes (a thumbnail inside it is skipped)."""
    if not data:
        raise InvalidInputError("picture is empty: 0 bytes")
    if data[:2] != b"\xff\xd8":
        raise InvalidInputError(f"picture is not a JPEG: it begins with {data[:4].hex(' ')}")
    position = 2
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            raise InvalidInputError(f"JPEG header is damaged at byte {position}")
        marker = data[position + 1]
        if marker == 0xFF or marker in _STANDALONE:
            position += 1 if marker == 0xFF else 2
            continue
        if marker in _SOF and position + 9 <= len(data):
            height, width = struct.unpack_from(">HH", data, position + 5)
            if not width or not height:
                raise InvalidInputError(f"JPEG header says {width}x{height} pixels")
            return width, height, position
        position += 2 + struct.unpack_from(">H", data, position + 2)[0]
    raise InvalidInputError(f"JPEG is cut short: no frame header in {len(data)} bytes")
