"""JPEG in and out: what is decoded, what is refused, and that nothing else ever happens."""

import io
import struct

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PilImage

from spillover.common.errors import InvalidInputError, TooLargeError
from spillover.common.images import decode_jpeg, encode_jpeg
from tests.support.jpeg import jpeg_size

MAX_PIXELS = 1 << 20


def photo(width: int = 64, height: int = 48) -> np.ndarray:
    """A smooth colour gradient, which JPEG keeps almost unchanged."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, (x + y) % 256], axis=2).astype(np.uint8)


JPEG = encode_jpeg(photo(), quality=90).data


def pil_jpeg(mode: str, **options: object) -> bytes:
    """The gradient as a JPEG of a Pillow mode."""
    buffer = io.BytesIO()
    PilImage.fromarray(photo()[:, :, ::-1]).convert(mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


@given(width=st.integers(1, 200), height=st.integers(1, 200))
@settings(max_examples=40, deadline=None)
def test_the_header_says_what_was_encoded(width: int, height: int) -> None:
    """The limit on pixels, which the header is held against, is exact."""
    encoded = encode_jpeg(photo(width, height), quality=80)
    assert decode_jpeg(encoded.data, width * height).shape == (height, width, 3)
    with pytest.raises(TooLargeError):
        decode_jpeg(encoded.data, width * height - 1)


@given(st.binary(max_size=400))
def test_no_bytes_raise_anything_but_the_senders_errors(noise: bytes) -> None:
    """Whatever a sender sends, only InvalidInputError comes out."""
    for data in (noise, b"\xff\xd8" + noise, JPEG[:200] + noise):
        with pytest.raises(InvalidInputError):
            decode_jpeg(data, MAX_PIXELS)


@given(position=st.integers(2, len(JPEG) - 1), value=st.integers(0, 255))
@settings(max_examples=300, deadline=None)
def test_a_flipped_byte_is_a_picture_or_the_senders_error(position: int, value: int) -> None:
    """A damaged JPEG either decodes, within the limit of pixels, or is refused as the sender's fault."""
    data = bytearray(JPEG)
    data[position] = value
    try:
        image = decode_jpeg(bytes(data), MAX_PIXELS)
    except InvalidInputError:
        return
    assert image.shape[0] * image.shape[1] <= MAX_PIXELS


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_a_jpeg_cut_short_is_refused(share: float) -> None:
    """A part of a JPEG is never answered, not even by OpenCV's grey filling."""
    with pytest.raises(InvalidInputError):
        decode_jpeg(JPEG[: int(len(JPEG) * share)], MAX_PIXELS)


def test_the_end_of_a_thumbnail_is_not_the_end_of_the_picture() -> None:
    """A cut JPEG whose EXIF thumbnail is whole is still recognised as cut."""
    thumbnail = JPEG
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    whole = JPEG[:2] + segment + JPEG[2:]
    assert decode_jpeg(whole, MAX_PIXELS).shape == (48, 64, 3)
    with pytest.raises(InvalidInputError, match="cut short"):
        decode_jpeg(whole[:-20], MAX_PIXELS)


def test_a_huge_picture_is_refused_by_its_header_alone() -> None:
    """30000x30000 pixels are refused before any is decoded."""
    start = JPEG.index(b"\xff\xc0") + 5
    data = JPEG[:start] + struct.pack(">HH", 30000, 30000) + JPEG[start + 4 :]
    with pytest.raises(TooLargeError, match="30000x30000"):
        decode_jpeg(data, MAX_PIXELS)


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n" + bytes(100), b"GIF89a"])
def test_what_is_not_a_jpeg_is_refused(data: bytes) -> None:
    """Nothing, and other formats, are the sender's fault, even those that OpenCV could read."""
    with pytest.raises(InvalidInputError):
        decode_jpeg(data, MAX_PIXELS)


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB"])
@pytest.mark.parametrize("progressive", [False, True])
def test_every_kind_of_jpeg_becomes_bgr(mode: str, progressive: bool) -> None:
    """Greyscale and CMYK, baseline and progressive, come out as the same three channels."""
    decoded = decode_jpeg(pil_jpeg(mode, quality=95, progressive=progressive), MAX_PIXELS)
    expected = photo()
    if mode == "L":
        expected = cv2.cvtColor(cv2.cvtColor(expected, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    assert decoded.dtype == np.uint8
    assert np.abs(decoded.astype(int) - expected).mean() < 6


def test_an_exif_rotation_is_obeyed() -> None:
    """The model sees the picture upright, as people do."""
    exif = PilImage.Exif()
    exif[0x0112] = 6  # turn clockwise by 90 degrees to show
    data = pil_jpeg("RGB", exif=exif.tobytes(), quality=95)
    upright = decode_jpeg(data, MAX_PIXELS)
    assert upright.shape == (64, 48, 3)
    assert np.abs(upright.astype(int) - np.rot90(photo(), -1)).mean() < 6


@given(width=st.integers(1, 300), height=st.integers(1, 300), longest=st.integers(8, 400))
@settings(max_examples=40, deadline=None)
def test_shrinking_never_enlarges_and_says_its_scale(width: int, height: int, longest: int) -> None:
    """The longer side is at most the limit, and each axis' scale leads from frame to sent pixels exactly."""
    encoded = encode_jpeg(photo(width, height), quality=70, longest_side=longest)
    sent, transform = jpeg_size(encoded.data), encoded.transform
    assert max(sent) <= longest or transform.scale_x == 1
    assert max(transform.scale_x, transform.scale_y) <= 1
    assert sent == pytest.approx((width * transform.scale_x, height * transform.scale_y))
    assert (transform.frame_width, transform.frame_height) == (width, height)
