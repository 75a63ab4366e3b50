"""Transforms from a frame to what is made of it: they add up, lead back, and are what the pixels did."""

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import astuple

from spillover.common.geometry import FrameTransform

SCALES = st.floats(0.05, 20)
OFFSETS = st.floats(-2000, 2000)
SIDES = st.integers(1, 4000)
TRANSFORMS = st.builds(FrameTransform, SCALES, SCALES, OFFSETS, OFFSETS, SIDES, SIDES)


@st.composite
def boxes_within(draw: st.DrawFn, width: float, height: float) -> np.ndarray:
    """One box within a frame of this size, (1, 4) float32."""
    x = sorted(draw(st.tuples(st.floats(0, width), st.floats(0, width))))
    y = sorted(draw(st.tuples(st.floats(0, height), st.floats(0, height))))
    return np.array([[x[0], y[0], x[1], y[1]]], np.float32)


def slack(*transforms: FrameTransform) -> float:
    """What float32 may lose on the way there and back: some units in the last place of the largest number."""
    reach = float(max(transforms[0].frame_width, transforms[0].frame_height))
    for one in transforms:
        moved = reach * max(one.scale_x, one.scale_y) + max(abs(one.offset_x), abs(one.offset_y))
        reach = max(reach, moved)
    shrunk = np.prod([min(one.scale_x, one.scale_y, 1.0) for one in transforms])
    return float(8 * np.finfo(np.float32).eps * reach / shrunk)


@given(TRANSFORMS, TRANSFORMS, TRANSFORMS)
def test_composing_is_associative(a: FrameTransform, b: FrameTransform, c: FrameTransform) -> None:
    """A crop, a resize and a letterbox are one transform, whichever two are put together first."""
    left, right = a.compose(b).compose(c), a.compose(b.compose(c))
    np.testing.assert_allclose(astuple(left), astuple(right), rtol=1e-9, atol=1e-6)
    assert (left.frame_width, left.frame_height) == (a.frame_width, a.frame_height)


@given(TRANSFORMS, TRANSFORMS, st.data())
def test_a_composed_transform_is_one_after_the_other(
    first: FrameTransform, then: FrameTransform, data: st.DataObject
) -> None:
    """Boxes that go through both are where they are by way of the picture in between."""
    box = data.draw(boxes_within(first.frame_width, first.frame_height))
    through = then.to_sent(first.to_sent(box))
    np.testing.assert_allclose(first.compose(then).to_sent(box), through, atol=slack(first, then))


@given(TRANSFORMS, st.data())
def test_what_was_sent_leads_back(transform: FrameTransform, data: st.DataObject) -> None:
    """`to_frame` is the inverse of `to_sent` for boxes within the frame."""
    box = data.draw(boxes_within(transform.frame_width, transform.frame_height))
    back = transform.to_frame(transform.to_sent(box))
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, box, atol=slack(transform))


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=4, max_size=4))
def test_no_box_leaves_the_frame(xyxy: list[float]) -> None:
    """Boxes are clipped to the frame."""
    box = FrameTransform(0.5, 0.25, 3, 4, 640, 480).to_frame(np.array([xyxy], np.float32))
    assert (box >= 0).all()
    assert (box <= [640, 480, 640, 480]).all()


@given(SIDES, SIDES, SIDES, SIDES, st.data())
def test_a_crop_that_is_shrunk_leads_back_as_its_pixels_went(
    width: int, height: int, sent_width: int, sent_height: int, data: st.DataObject
) -> None:
    """From first principles, in doubles: corner of the crop + sent pixels * (its side / sent side)."""
    left, top = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    size = width - left, height - top
    crop = FrameTransform.crop((width, height), left, top)
    transform = crop.compose(FrameTransform.resize(size, (sent_width, sent_height)))
    sent = data.draw(boxes_within(sent_width, sent_height))
    ratio = np.array([size[0] / sent_width, size[1] / sent_height] * 2)
    expected = np.array([left, top] * 2) + sent.astype(np.float64) * ratio
    limit = [width, height] * 2
    np.testing.assert_allclose(
        transform.to_frame(sent), np.clip(expected, 0, limit), atol=slack(crop, transform)
    )


@given(TRANSFORMS)
def test_a_transform_survives_a_file(transform: FrameTransform) -> None:
    """It is spooled beside the payload, so a late answer leads back as one in time."""
    encoded = msgspec.msgpack.encode(transform)
    assert msgspec.msgpack.decode(encoded, type=FrameTransform) == transform
