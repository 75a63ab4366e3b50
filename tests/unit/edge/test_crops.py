"""Crops: where they are cut, what they cost, when they may be sent, and how their answer comes back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillover.common.geometry import FrameTransform
from spillover.common.images import EncodedImage, decode_jpeg
from spillover.common.types import Action, Decision, Detections, Region
from spillover.edge.config import PayloadKind, PictureVariant
from spillover.edge.link.payload_costs import PayloadCostModel, picture_forms
from spillover.edge.link.state import LinkState, LinkView, PayloadOption
from spillover.edge.payload.crops import crop_of
from spillover.edge.payload.encoder import PICTURE, encode_variant
from spillover.edge.payload.types import EncodedFrame
from spillover.edge.policy.base import NEEDS_WHOLE, Context, Reason
from spillover.edge.policy.forms import ChoosePayload
from spillover.edge.policy.scores import (
    LEAST_SIDE,
    MOST_SHARE,
    ScoreSettings,
    doubtful_region,
    near_threshold,
)
from tests.support.edge_values import classification
from tests.support.jpeg import jpeg_size

SETTINGS = ScoreSettings(report_threshold=0.5, band=0.2)
CROP = PictureVariant(85, crop=True)


def _boxes(*rows):
    """Of (left, top, right, bottom, confidence), class by number."""
    numbers = np.array(rows, np.float32).reshape(-1, 5)
    return Detections(numbers[:, :4], numbers[:, 4], np.arange(len(rows), dtype=np.int32))


def _frame(width, height):
    return np.zeros((height, width, 3), np.uint8)


@st.composite
def _scenes(draw):
    """A frame's size, and boxes within it."""
    width, height = draw(st.integers(1, 2000)), draw(st.integers(1, 2000))
    share = st.floats(0, 1)
    rows = []
    for _ in range(draw(st.integers(0, 4))):
        x, y = sorted((draw(share), draw(share))), sorted((draw(share), draw(share)))
        rows.append((x[0] * width, y[0] * height, x[1] * width, y[1] * height, draw(share)))
    return width, height, _boxes(*rows)


@given(_scenes())
def test_a_region_is_within_the_frame_and_holds_every_box_in_doubt(scene):
    """Whatever the boxes; it is of the least size at least, and never nearly the whole frame."""
    width, height, boxes = scene
    region = doubtful_region(boxes, _frame(width, height), SETTINGS)
    if not near_threshold(boxes, SETTINGS):
        assert region is None
    if region is None:
        return
    assert 0 <= region.left < region.right <= width
    assert 0 <= region.top < region.bottom <= height
    assert min(region.width, region.height) >= LEAST_SIDE * min(width, height)
    assert region.width * region.height <= MOST_SHARE * width * height
    doubtful = np.abs(boxes.confidence - 0.5) <= 0.2
    for left, top, right, bottom in boxes.xyxy[doubtful].tolist():
        assert region.left <= left + 1e-3
        assert region.top <= top + 1e-3
        assert right <= region.right + 1e-3
        assert bottom <= region.bottom + 1e-3


def test_only_boxes_in_doubt_are_cut_out():
    """What the edge is sure of, or would never report, does not widen the region."""
    sure, doubtful, nothing = (0, 0, 50, 50, 0.9), (300, 200, 340, 240, 0.5), (600, 0, 640, 40, 0.1)
    region = doubtful_region(_boxes(sure, doubtful, nothing), _frame(640, 480), SETTINGS)
    assert region == doubtful_region(_boxes(doubtful), _frame(640, 480), SETTINGS)
    assert region == Region(200, 100, 440, 340)
    assert doubtful_region(_boxes(sure, nothing), _frame(640, 480), SETTINGS) is None


def test_boxes_all_over_the_frame_leave_nothing_to_cut():
    """Nearly the whole frame is the whole frame; a class has no place at all."""
    corners = _boxes((0, 0, 20, 20, 0.5), (620, 460, 640, 480, 0.5))
    assert doubtful_region(corners, _frame(640, 480), SETTINGS) is None
    assert doubtful_region(classification(0.5, 0.5), _frame(640, 480), SETTINGS) is None


def test_an_answer_to_a_crop_is_put_beside_what_the_edge_saw_around_it():
    """Boxes lie where their centres do; the cloud's are moved and scaled into the frame; the surest first."""
    inside, astride, outside = (20, 20, 40, 40, 0.6), (90, 20, 130, 40, 0.5), (150, 0, 160, 10, 0.4)
    crop = crop_of(Region(10, 10, 100, 60), _boxes(inside, astride, outside))
    assert crop.rest.class_id.tolist() == [1, 2]
    sent = EncodedImage(b"", FrameTransform(0.5, 0.5, -5, -5, 200, 100))
    encoded_frame = EncodedFrame("f", "cam", "boot", 0, 0.0, sent, "crop", crop.rest)
    told = encoded_frame.in_frame_pixels(_boxes((0, 0, 10, 10, 0.9), (5, 5, 10, 10, 0.45)))
    assert isinstance(told, Detections)
    np.testing.assert_allclose(told.confidence, [0.9, 0.5, 0.45, 0.4])
    np.testing.assert_allclose(told.xyxy[0], [10, 10, 30, 30])
    np.testing.assert_allclose(told.xyxy[2], [20, 20, 30, 30])


@given(_scenes(), _scenes())
def test_nothing_is_lost_when_answers_are_merged(a, b):
    """Every box of either is there, by descending confidence."""
    both = a[2].merged(b[2])
    assert len(both) == len(a[2]) + len(b[2])
    assert (np.diff(both.confidence) <= 0).all()
    rows = np.vstack([a[2].xyxy, b[2].xyxy])
    assert sorted(map(tuple, both.xyxy.tolist())) == sorted(map(tuple, rows.tolist()))


def test_a_crop_is_encoded_at_the_scale_of_the_whole_picture():
    """`longest_side` is the frame's: what is cut from it is shrunk as much."""
    image = _frame(400, 200)
    image[50:150, 100:300] = 255
    sent = encode_variant(image, PictureVariant(95, 200, crop=True), Region(100, 50, 300, 150))
    assert jpeg_size(sent.data) == (100, 50)
    assert sent.transform == FrameTransform(0.5, 0.5, -50, -25, 400, 200)
    assert decode_jpeg(sent.data, 100_000).min() > 250


def _book():
    return PayloadCostModel(picture_forms(PictureVariant(85), [CROP]), PayloadKind.PICTURE)


def test_a_crop_is_on_offer_only_where_there_is_one_and_costs_its_share():
    """Its bytes are learnt from crops of any size, and from pictures before there was one."""
    book = _book()
    assert [option.name for option in book.view().options] == [PICTURE]
    book.made(PICTURE, 80_000, 0.005)
    _, crop = book.view(crop_share=0.25).options
    assert (crop.action, crop.payload_bytes) == (Action.SEND_CROPS, 20_000)
    book.made(CROP.name, 30_000, 0.005, crop_share=0.5)
    whole, crop = book.view(crop_share=0.1).options
    assert (whole.payload_bytes, crop.payload_bytes) == (80_000, pytest.approx(6000))
    assert crop.latency_s < whole.latency_s


def _context(region):
    options = (
        PayloadOption(PICTURE, Action.SEND_FRAME, 80_000, 0.4, 1.0),
        PayloadOption(CROP.name, Action.SEND_CROPS, 20_000, 0.2, 1.0),
    )
    return Context(time_left_s=1, link=LinkState(view=LinkView(options=options)), region=region)


def test_a_decision_for_a_crop_says_where_it_is():
    """Action, form and place: enough to cut it again from the same picture."""
    region = Region(1, 2, 30, 40)
    decision = ChoosePayload()(Decision(Action.SEND_FRAME, Reason.SCORE, 0.5), _context(region))
    assert (decision.action, decision.payload) == (Action.SEND_CROPS, CROP.name)
    assert decision.region == region


@pytest.mark.parametrize("reason", sorted(NEEDS_WHOLE))
def test_what_the_edge_may_have_missed_is_asked_about_with_the_whole_frame(reason):
    """An audit of a crop would be no audit."""
    decision = ChoosePayload()(Decision(Action.SEND_FRAME, reason), _context(Region(1, 2, 30, 40)))
    assert (decision.action, decision.payload, decision.region) == (Action.SEND_FRAME, PICTURE, None)
