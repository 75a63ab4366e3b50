"""JPEGs decoded at a part of their size: the same picture, the same way up, and boxes where they were."""

import io

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image as PilImage

from spillover.common.images import REDUCTIONS, decode_reduced, encode_jpeg
from spillover.common.jpeg import JpegHeader, read_header
from spillover.common.model.manifest import Decode, Input, Interpolation, Manifest, Output, Resize
from spillover.common.model.preprocess import preprocess_jpeg, reduction_for

MAX_PIXELS = 1 << 22


def manifest_of(decode: Decode = Decode.SCALED, side: int = 64, **changes: object) -> Manifest:
    """A model that takes `side` pixels square."""
    spec = Input(height=side, width=side, pad_value=0, **changes)
    return Manifest(
        name="m",
        version="1",
        task="detection",
        input=spec,
        output=Output("yolox"),
        sha256="0" * 64,
        decode=decode,
    )


def scene(width: int, height: int) -> np.ndarray:
    """Smooth, different in every corner, with a white mark that is no square and not in the middle."""
    y, x = np.mgrid[:height, :width]
    image = np.stack([x * 100 // width, y * 100 // height, (x + y) * 50 // (width + height)], axis=2)
    image[height // 4 : height // 2, width // 8 : width * 3 // 8] = 255
    return image.astype(np.uint8)


def turned_jpeg(image: np.ndarray, orientation: int) -> bytes:
    """A JPEG whose EXIF data says how it is to be shown."""
    exif = PilImage.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    PilImage.fromarray(image[:, :, ::-1]).save(buffer, "JPEG", quality=95, exif=exif.tobytes())
    return buffer.getvalue()


def mark_in(tensor: np.ndarray) -> np.ndarray:
    """The box of the mark in an input tensor (3, H, W), in its pixels."""
    rows, columns = np.nonzero(tensor.min(axis=0) > 160)
    return np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]], np.float32)


def header_of(width: int, height: int, may_turn: bool = False) -> JpegHeader:
    """The header of a picture that need not exist."""
    return JpegHeader(width, height, 3, False, may_turn, 0)


@pytest.mark.parametrize("resize", list(Resize))
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("width", "height"), [(640, 480), (637, 483), (320, 640)])
def test_a_scaled_decode_shows_the_network_the_same(resize, orientation, width, height) -> None:
    """In each of EXIF's eight orientations: nearly the same pixels, and boxes in pixels of what was sent."""
    data = turned_jpeg(scene(width, height), orientation)
    exact, at_exact = preprocess_jpeg(data, MAX_PIXELS, manifest_of(Decode.EXACT, resize=resize))
    scaled, at_scaled = preprocess_jpeg(data, MAX_PIXELS, manifest_of(resize=resize))
    assert np.abs(scaled - exact).mean() < 2
    assert (at_scaled.frame_width, at_scaled.frame_height) == (at_exact.frame_width, at_exact.frame_height)
    np.testing.assert_allclose(
        at_scaled.to_frame(mark_in(scaled)), at_exact.to_frame(mark_in(exact)), atol=max(width, height) / 64
    )


@given(
    width=st.integers(130, 700),
    height=st.integers(130, 700),
    resize=st.sampled_from(Resize),
    turned=st.sampled_from((None, 1, 3, 6)),
)
@settings(max_examples=100)
def test_the_mark_is_where_the_transform_says(width: int, height: int, resize: Resize, turned) -> None:
    """At any sides, also those of which a reduction leaves a part of a block: to the pixel of the input."""
    assume(2 / 3 < width / height < 3 / 2)  # else the mark is cut away, or too narrow to be found
    image = scene(width, height)
    data = encode_jpeg(image, 95).data if turned is None else turned_jpeg(image, turned)
    upright = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    tensor, transform = preprocess_jpeg(data, MAX_PIXELS, manifest_of(resize=resize))
    whole = mark_in(upright.transpose(2, 0, 1))
    visible = np.clip(transform.to_sent(whole), 0, 64)
    np.testing.assert_allclose(mark_in(tensor), visible, atol=1.5)
    assert (transform.frame_height, transform.frame_width) == upright.shape[:2]


@given(
    width=st.integers(1, 5000),
    height=st.integers(1, 5000),
    resize=st.sampled_from(Resize),
    crop=st.sampled_from((0.8, 1.0)),
    may_turn=st.booleans(),
)
def test_a_reduction_never_makes_the_network_enlarge(width, height, resize, crop, may_turn) -> None:
    """What is left is at least what the input shows, whichever way up; and the next step would be less."""
    manifest = manifest_of(resize=resize, crop_fraction=crop, interpolation=Interpolation.AREA)
    reduction = reduction_for(header_of(width, height, may_turn), manifest)
    if reduction > 1 and resize is Resize.STRETCH:
        assert min(width, height) >= 64 * reduction
    if reduction > 1 and resize is Resize.CENTRE_CROP:
        assert min(width, height) * crop >= 64 * reduction * 0.999
    if reduction > 1 and resize in {Resize.LETTERBOX, Resize.LETTERBOX_CENTRE}:
        assert max(width, height) >= 64 * reduction
    if may_turn:
        assert (width % reduction, height % reduction) == (0, 0)
    elif reduction < REDUCTIONS[0] and resize is Resize.STRETCH:
        assert min(width, height) < 64 * reduction * 2


def test_the_manifest_can_ask_for_every_pixel() -> None:
    """`decode: exact` decodes all of the picture, however large."""
    assert reduction_for(header_of(4096, 4096), manifest_of(Decode.EXACT)) == 1
    assert reduction_for(header_of(4096, 4096), manifest_of()) == 8


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_a_picture_that_is_almost_square_keeps_its_sides(reduction: int) -> None:
    """Sides that round to the same number are not taken for turned ones."""
    data = encode_jpeg(scene(255, 256), 90).data
    decoded = decode_reduced(data, read_header(data), reduction)
    assert (decoded.transform.frame_width, decoded.transform.frame_height) == (255, 256)
    assert decoded.image.shape == (256 // reduction, 256 // reduction if reduction > 1 else 255, 3)
