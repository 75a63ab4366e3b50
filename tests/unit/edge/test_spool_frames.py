"""What is spooled comes back as it went in, whatever the payload."""

import contextlib

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spillover.common.errors import InvalidInputError
from spillover.common.geometry import FrameTransform
from spillover.common.images import EncodedImage, encode_jpeg
from spillover.common.types import (
    Action,
    AnsweredBy,
    Classification,
    Decision,
    Detections,
    ModelId,
    Result,
    Timings,
)
from spillover.edge.payload.types import EncodedFeatures, EncodedFrame
from spillover.edge.spool.frames import SpooledFrame, to_body
from tests.support.edge_values import result
from tests.support.jpeg import jpeg_size

FEATURES = EncodedFeatures(b"SF features", "ab" * 32, FrameTransform(0.5, 0.25, 3.5, 0.0, 640, 480))
PICTURE = EncodedImage(b"a jpeg", FrameTransform(0.5, 0.4, -5, -8, 640, 480))


def _parcel(payload):
    return EncodedFrame("f1", "cam", "boot", 7, 1.5, payload, "form")


def _local():
    nothing = Classification(np.zeros(1, np.int32), np.ones(1, np.float32))
    decision = Decision(Action.SPOOL, "because", 0.5)
    return Result(
        "f1", "cam", 7, 1.5, "", AnsweredBy.EDGE_DEGRADED, nothing, ModelId("m", "1"), decision, Timings()
    )


def test_pictures_and_features_come_back_from_the_disk_as_they_were():
    """The same frame, so that the late call is the one that would have been made."""
    for payload in (PICTURE, FEATURES):
        encoded_frame = SpooledFrame(to_body(_parcel(payload), _local())).encoded_frame
        assert encoded_frame.payload == payload
        assert (encoded_frame.frame_id, encoded_frame.sequence, encoded_frame.option) == ("f1", 7, "form")


def test_a_redacted_frame_comes_back_with_the_boxes_of_what_is_hidden():
    """A late answer has them as one in time would."""
    hidden = Detections(
        np.array([[1.5, 2, 3, 4]], np.float32), np.array([0.7], np.float32), np.array([0], np.int32)
    )
    sent = EncodedFrame("f1", "cam", "boot", 7, 1.5, PICTURE, "picture", hidden=hidden)
    back = SpooledFrame(to_body(sent, _local())).encoded_frame
    _is(back.hidden, hidden)


def _is(back, boxes):
    assert back is not None
    for name in ("xyxy", "confidence", "class_id"):
        np.testing.assert_array_equal(getattr(back, name), getattr(boxes, name))
        assert getattr(back, name).dtype == getattr(boxes, name).dtype


def test_boxes_found_in_features_are_brought_back_to_the_frame():
    """The transform travelled with them: input pixels become frame pixels."""
    encoded_frame = SpooledFrame(to_body(_parcel(FEATURES), _local())).encoded_frame
    found = Detections(
        np.array([[8.5, 10, 13.5, 20]], np.float32), np.ones(1, np.float32), np.zeros(1, np.int32)
    )
    boxes = encoded_frame.in_frame_pixels(found)
    assert isinstance(boxes, Detections)
    assert boxes.xyxy.tolist() == [[10, 40, 20, 80]]


def test_boxes_of_a_shrunk_picture_lead_back_on_both_axes():
    """A flat frame loses more of one side to rounding; the whole picture is still the whole frame."""
    sent = encode_jpeg(np.zeros((5, 1000, 3), np.uint8), 85, longest_side=100)
    encoded_frame = EncodedFrame("f", "cam", "b", 0, 0.0, sent)
    whole = Detections(
        np.array([[0, 0, *jpeg_size(sent.data)]], np.float32), np.ones(1, np.float32), np.zeros(1, np.int32)
    )
    for one in (encoded_frame, SpooledFrame(to_body(encoded_frame, result("f"))).encoded_frame):
        back = one.in_frame_pixels(whole)
        np.testing.assert_allclose(back.xyxy, [[0, 0, 1000, 5]], rtol=1e-6)


_changes = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), min_size=1, max_size=4)


@settings(max_examples=500, deadline=None)
@given(_changes)
def test_a_body_of_other_bytes_is_a_frame_or_is_refused(changes):
    """Nothing else is raised, which would end the thread that delivers, at every start anew."""
    body = bytearray(to_body(_parcel(PICTURE), _local()))
    for at, value in changes:
        body[at % len(body)] = value
    with contextlib.suppress(InvalidInputError):
        assert SpooledFrame(bytes(body)).encoded_frame is not None


@pytest.mark.parametrize(("field", "value"), [(6, b"\xa1\xff"), (12, {}), (12, {"xyxy": ["many"]})])
def test_a_body_without_text_or_boxes_is_refused(field, value):
    """Of those bytes that hypothesis finds seldom."""
    fields = msgspec.msgpack.decode(to_body(_parcel(PICTURE), _local()))
    fields[field] = msgspec.Raw(value) if isinstance(value, bytes) else value
    with pytest.raises(InvalidInputError):
        SpooledFrame(msgspec.msgpack.encode(fields))
