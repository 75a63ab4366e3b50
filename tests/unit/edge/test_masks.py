"""Fixed masks: no pixel that they touch is ever seen, and none elsewhere is changed."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spillover.common.config import parse_config
from spillover.common.errors import ConfigError
from spillover.common.tasks.classification import CLASSIFICATION
from spillover.edge.config import RedactionConfig
from spillover.edge.payload.masks import build_masks
from spillover.edge.payload.redaction import build_redaction
from tests.support.edge_values import frame

CORNER = ((0.7, 0.0), (1.0, 0.0), (1.0, 0.3))
GREY = 128
MARGIN_PX = 2.5
"""A mask covers whole pixels, and one more on every side."""


def _masked(polygons, size):
    return build_masks(polygons)(frame(size=size)).image


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=3, unique=True),
    st.tuples(st.integers(8, 60), st.integers(8, 60)),
)
def test_every_pixel_that_a_mask_touches_is_black_and_the_rest_is_as_it_was(corners, size):
    """Whatever triangle and size: judged by points of each pixel against the polygon itself."""
    image = _masked([corners], size)
    height, width = size
    contour = (np.array(corners) * (width, height)).astype(np.float32)
    for y in range(height):
        for x in range(width):
            inside = [
                cv2.pointPolygonTest(contour, (x + dx, y + dy), measureDist=True)
                for dx in (0.02, 0.5, 0.98)
                for dy in (0.02, 0.5, 0.98)
            ]
            if max(inside) > 0.01:
                assert not image[y, x].any(), (x, y)
            elif max(inside) < -MARGIN_PX:
                assert (image[y, x] == GREY).all(), (x, y)


def test_the_frame_itself_is_not_changed():
    """The camera may still hold it."""
    original = frame(size=(48, 64))
    masked = build_masks([CORNER])(original)
    assert (original.image == GREY).all()
    assert not masked.image[0, 63].any()
    assert masked.frame_id == original.frame_id


def test_a_camera_that_changes_its_size_stays_masked():
    """Shares hold for every size."""
    mask = build_masks([CORNER, ((0.0, 0.5), (0.5, 0.5), (0.5, 1.0), (0.0, 1.0))])
    for height, width in ((48, 64), (480, 640), (48, 64), (100, 30)):
        image = mask(frame(size=(height, width))).image
        assert not image[0, width - 1].any()
        assert not image[height // 2 + 1 :, : width // 2].any()
        assert image[0, 0].all()


def test_no_masks_cost_nothing():
    """There is no function to call."""
    assert build_masks(()) is None


def test_masks_need_no_detector():
    """Classes do, and the error says what needs none."""
    assert build_redaction(RedactionConfig(masks=(CORNER,)), (), CLASSIFICATION) is None
    with pytest.raises(ConfigError, match="use a detector, or masks"):
        build_redaction(RedactionConfig(classes=(1,), masks=(CORNER,)), (), CLASSIFICATION)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{style: fill}", "classes: or masks must name something to hide"),
        ("masks: [[[0,0],[1,1],[1,0],[0,1]]]", r"masks\[0\]: must not cross itself"),
        ("masks: [[[0,0],[1,1]]]", r"masks\[0\]: must be a list with at least 3 items"),
        ("masks: [[[0,0],[1,1],[2,0]]]", r"masks\[0\]\[2\].*from 0 to 1"),
    ],
)
def test_mistakes_are_named(text, why):
    """With key and cause."""
    with pytest.raises(ConfigError, match=why):
        parse_config(text, RedactionConfig, "edge.yaml")
