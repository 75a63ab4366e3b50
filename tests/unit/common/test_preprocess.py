"""Pixels to tensor: the transform leads back, values are normalised, shrinking is Pillow's."""

import hashlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PilImage

from spillover.common.model.manifest import Colour, Input, Interpolation, Layout, Resize
from spillover.common.model.preprocess import preprocess

SIDES = st.integers(1, 500)


@given(width=SIDES, height=SIDES, resize=st.sampled_from(Resize), data=st.data())
@settings(max_examples=150, deadline=None)
def test_boxes_go_there_and_back(width: int, height: int, resize: Resize, data: st.DataObject) -> None:
    """A box drawn in the frame, moved into the input and back by the transform, is the same box."""
    spec = Input(height=96, width=64, resize=resize, crop_fraction=0.875)
    tensor, transform = preprocess(np.zeros((height, width, 3), np.uint8), spec)
    assert tensor.shape == (3, 96, 64)
    x = sorted(data.draw(st.tuples(st.floats(0, width), st.floats(0, width))))
    y = sorted(data.draw(st.tuples(st.floats(0, height), st.floats(0, height))))
    box = np.array([[x[0], y[0], x[1], y[1]]], np.float32)
    np.testing.assert_allclose(transform.to_frame(transform.to_sent(box)), box, rtol=1e-4, atol=0.02)


@pytest.mark.parametrize("resize", list(Resize))
def test_a_mark_in_the_picture_is_where_the_transform_says(resize: Resize) -> None:
    """The transform describes what really happened to the pixels, for every way to resize."""
    image = np.zeros((200, 300, 3), np.uint8)
    image[90:110, 140:170] = 255
    spec = Input(height=120, width=100, resize=resize, crop_fraction=0.9, pad_value=0)
    tensor, transform = preprocess(image, spec)
    rows, columns = np.nonzero(tensor[0] > 127)
    found = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]], np.float32)
    np.testing.assert_allclose(transform.to_frame(found), [[140, 90, 170, 110]], atol=3)


@pytest.mark.parametrize("layout", list(Layout))
@pytest.mark.parametrize("colour", [Colour.RGB, Colour.BGR])
def test_values_are_normalised_in_the_order_asked_for(layout: Layout, colour: Colour) -> None:
    """(x - mean) / std per channel, in the channel and axis order of the manifest."""
    image = np.random.default_rng(0).integers(0, 256, (6, 5, 3)).astype(np.uint8)
    spec = Input(height=6, width=5, layout=layout, colour=colour, mean=(1, 2, 3), std=(4, 5, 6))
    tensor, _ = preprocess(image, spec)
    channels = image[:, :, ::-1] if colour is Colour.RGB else image
    expected = (channels.astype(np.float64) - [1, 2, 3]) / [4, 5, 6]
    if layout is Layout.NCHW:
        expected = expected.transpose(2, 0, 1)
    assert tensor.dtype == np.float32
    assert tensor.flags.c_contiguous
    np.testing.assert_allclose(tensor, expected, rtol=1e-5, atol=1e-5)


def test_letterbox_pads_with_its_value_where_yolox_does() -> None:
    """The picture lies top-left, the rest is 114."""
    tensor, _ = preprocess(
        np.zeros((100, 200, 3), np.uint8), Input(height=64, width=64, resize=Resize.LETTERBOX)
    )
    assert (tensor[:, :32] == 0).all()
    assert (tensor[:, 32:] == 114).all()


def textured(height: int, width: int) -> np.ndarray:
    """Detail at every scale, as in photographs (noise whose spectrum falls as 1/f)."""
    random = np.random.default_rng(1)
    image = np.zeros((height, width, 3), np.float32)
    for octave in range(8):
        noise = random.normal(0, 1, (2 + (height >> octave), 2 + (width >> octave), 3))
        image += cv2.resize(noise.astype(np.float32), (width, height)) * 10 * 1.5**octave / 4
    return np.clip(image + 128, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("side", "wanted"), [(330, 160), (300, 260), (945, 160), (200, 224)])
def test_antialiased_bicubic_is_close_to_pillows(side: int, wanted: int) -> None:
    """Within one and a half grey levels of Pillow's widened bicubic on average, whatever the factor."""
    image = textured(side, side)
    spec = Input(height=wanted, width=wanted, interpolation=Interpolation.BICUBIC_ANTIALIAS)
    ours, _ = preprocess(image[:, :, ::-1], spec)
    pillow = np.asarray(PilImage.fromarray(image).resize((wanted, wanted), PilImage.Resampling.BICUBIC))
    assert np.abs(ours.transpose(1, 2, 0) - pillow).mean() < 1.5


@pytest.mark.parametrize(
    ("resize", "digest"),
    [
        (Resize.STRETCH, "47daef05983a124a"),
        (Resize.LETTERBOX, "c01f21fd99c354df"),
        (Resize.CENTRE_CROP, "456f61dcc888a6fd"),
    ],
)
def test_linear_pixels_are_alike_on_every_processor(resize: Resize, digest: str) -> None:
    """The digests are of x86-64 and of aarch64: OpenCV's fast bilinear filter has other ones on each."""
    y, x = np.mgrid[0:300, 0:410]
    picture = np.stack([(x * y) % 251, (x * 7 + y * 3) % 256, (x * x + y) % 239], axis=-1).astype(np.uint8)
    tensor, _ = preprocess(picture, Input(height=96, width=64, resize=resize))
    assert hashlib.sha256(tensor.tobytes()).hexdigest()[:16] == digest
