"""Motion and lost boxes: what an empty frame gains by them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillover.common.tasks.detection import DETECTION
from spillover.common.types import Image
from spillover.edge.camera.change import changed_share
from spillover.edge.inference.scene import SIDE, UNSEEN, Scene, Surroundings, thumbnail, watch
from spillover.edge.link.state import LinkState
from spillover.edge.policy.base import Context
from tests.support.edge_values import classification, detections
from tests.support.policies import decide, policy_of


def scene(left: int = 0, noise: float = 0.0, seed: int = 0, size: tuple[int, int] = (480, 640)) -> Image:
    """Grey, with a white square of a quarter of the height at `left`."""
    random = np.random.default_rng(seed)
    picture = np.full((*size, 3), 100.0)
    side = size[0] // 4
    picture[side : 2 * side, left : left + side] = 255
    return np.clip(picture + random.normal(0, noise, picture.shape), 0, 255).astype(np.uint8)


def test_what_moves_is_seen_and_noise_is_not() -> None:
    """A camera's noise changes nothing; a square that moves changes about its two places."""
    still = changed_share(thumbnail(scene(0, 12)), thumbnail(scene(0, 12, seed=1)))
    moved = changed_share(thumbnail(scene(0, 12)), thumbnail(scene(300, 12)))
    assert still < 0.002
    assert moved == pytest.approx(2 * 120 * 120 / (480 * 640), rel=0.2)


@given(st.integers(1, 900), st.integers(1, 900))
def test_any_picture_has_a_thumbnail(height: int, width: int) -> None:
    """However small or flat."""
    assert thumbnail(np.zeros((height, width, 3), np.uint8)).shape == (SIDE, SIDE)


def test_boxes_that_vanish_are_missed_for_a_second() -> None:
    """Then nothing is there, and that is that."""
    state, seen = watch(Scene(), scene(), detections(0.9), 0.5, 10.0)
    assert seen == UNSEEN
    state, seen = watch(state, scene(), detections(), 0.5, 10.5)
    assert seen == Surroundings(0.0, lost_track=True, empty=True)
    state, seen = watch(state, scene(), detections(0.3), 0.5, 11.5)
    assert seen == Surroundings(0.0, lost_track=False, empty=True)


def test_classifiers_are_not_watched() -> None:
    """They have an answer for every frame."""
    assert watch(Scene(), scene(), classification(1.0), 0.5, 0.0)[1] is UNSEEN


@pytest.mark.parametrize(
    ("surroundings", "confidence", "reason"),
    [
        (Surroundings(0.06), (), "motion"),
        (Surroundings(0.0, lost_track=True), (), "lost track"),
        (Surroundings(0.01), (), "empty"),
        (Surroundings(0.06), (0.99,), "confident"),
        (Surroundings(0.06), (0.45,), "score>=threshold"),
    ],
)
def test_an_empty_frame_gains_by_what_happens(
    surroundings: Surroundings, confidence: tuple[float, ...], reason: str
) -> None:
    """Only where no box is reported; the decision holds what was seen."""
    policy = policy_of(task=DETECTION, draw=0.99, threshold=0.5)
    context = Context(0.4, LinkState(max_in_flight=4), surroundings=surroundings)
    decision = decide(policy, detections(*confidence), context)
    assert decision.reason == reason
    if reason in {"motion", "lost track"}:
        assert decision.inputs["motion"] == surroundings.motion
        assert decision.expected_gain == 0.5
