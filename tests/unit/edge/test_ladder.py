"""The payload ladder: the smallest picture that keeps the gain and fits."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from common.types import Detections
from edge.policy.ladder import LADDER, SizeBook, choose_rung, doubtful_crop

SIZES = [90_000.0, 40_000.0, 20_000.0, 8_000.0]


def test_the_smallest_that_keeps_the_gain_is_taken() -> None:
    """With room for all, quality that nobody needs is not paid for."""
    assert choose_rung(LADDER, SIZES, 1e6) == LADDER[1]


def test_when_room_is_short_the_best_that_fits_is_taken() -> None:
    """And nothing when nothing fits."""
    assert choose_rung(LADDER, SIZES, 30_000) == LADDER[2]
    assert choose_rung(LADDER, SIZES, 100) is None


@given(st.lists(st.floats(1, 1e6), min_size=4, max_size=4), st.floats(0, 1e6), st.floats(0, 1))
def test_what_is_chosen_fits(sizes: list[float], limit: float, keep: float) -> None:
    """Never more bytes than the limit."""
    rung = choose_rung(LADDER, sizes, limit, keep)
    if rung is None:
        assert min(sizes) > limit
    else:
        assert sizes[LADDER.index(rung)] <= limit


def test_sizes_are_learnt() -> None:
    """After some frames the expectation is what frames really take, for other frame sizes in proportion."""
    book = SizeBook()
    for _ in range(60):
        book.encoded(LADDER[0], 640, 480, 50_000)
    assert abs(book.expected_bytes(LADDER[0], 640, 480) - 50_000) < 1_000
    assert abs(book.expected_bytes(LADDER[0], 1280, 960) - 200_000) < 4_000


def detections(*rows: tuple[float, float, float, float, float]) -> Detections:
    """Boxes with confidence, all of class 0."""
    array = np.array(rows, np.float32).reshape(-1, 5)
    return Detections(array[:, :4], array[:, 4], np.zeros(len(rows), np.int32))


def test_the_crop_holds_every_doubtful_box_and_no_other() -> None:
    """Boxes that are sure do not widen it."""
    found = detections((100, 100, 140, 140, 0.45), (150, 100, 200, 150, 0.55), (500, 400, 600, 470, 0.95))
    crop = doubtful_crop(found, 640, 480, 0.5, 0.15)
    assert crop is not None
    left, top, right, bottom = crop
    assert left <= 100
    assert top <= 100
    assert 200 <= right < 500
    assert 150 <= bottom < 400


@given(
    st.lists(
        st.tuples(
            st.floats(0, 600), st.floats(0, 400), st.floats(1, 700), st.floats(1, 500), st.floats(0, 1)
        ),
        max_size=6,
    )
)
def test_a_crop_lies_in_the_frame_and_is_worth_it(rows: list[tuple[float, ...]]) -> None:
    """Inside the picture, and at most half of it."""
    boxes = [(x, y, min(x + w, 640), min(y + h, 480), c) for x, y, w, h, c in rows]
    crop = doubtful_crop(detections(*boxes), 640, 480, 0.5, 0.2)
    if crop is not None:
        left, top, right, bottom = crop
        assert 0 <= left < right <= 640
        assert 0 <= top < bottom <= 480
        assert (right - left) * (bottom - top) <= 0.5 * 640 * 480
