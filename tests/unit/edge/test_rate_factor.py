"""The rate factor of a camera's video: chosen by how near its pictures are to the frames, beside a JPEG."""

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spillover.common.types import Image
from spillover.edge.assembly.offload import _sent_now
from spillover.edge.config import PayloadKind, UplinkConfig, VideoConfig
from spillover.edge.payload.rate_factor import LEAST, MOST, REST_MOST, START, WINDOW, RateFactor
from spillover.edge.payload.streams import KeyCause
from spillover.edge.payload.video import VideoStreams, errors
from tests.support.video import CountedStreams, Receiver

ERRORS = st.floats(0, 65025)


def _watched(factor: RateFactor, video_error: float, jpeg_error: float) -> RateFactor:
    """After the next window."""
    while not factor.is_watching:
        factor = factor.passed()
    for _ in range(WINDOW):
        factor = factor.compared(video_error, jpeg_error)
    return factor


@pytest.mark.parametrize(
    ("ratio", "wanted"), [(1.0, START), (1.2, START), (2.0, START - 4), (0.5, START + 4)]
)
def test_video_that_is_too_far_from_the_frame_gets_better_and_the_other_smaller(ratio, wanted):
    """By steps that bring its error to JPEG's; what is near to it is not worth a key."""
    assert _watched(RateFactor(), 20 * ratio, 20).crf == pytest.approx(wanted, abs=0.5)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(ERRORS, ERRORS), min_size=WINDOW, max_size=20 * WINDOW))
def test_whatever_is_seen_keys_grow_seldom(pairs):
    """The rate factor stays within its bounds, and after each window twice as many frames pass."""
    factor, frames, changes = RateFactor(), 0, 0
    for video_error, jpeg_error in pairs:
        while not factor.is_watching:
            factor, frames = factor.passed(), frames + 1
        before, factor, frames = factor, factor.compared(video_error, jpeg_error), frames + 1
        assert LEAST <= factor.crf <= MOST
        changes += factor.crf != before.crf
    assert factor.next_rest <= REST_MOST
    assert changes <= math.log2(frames) + frames / REST_MOST


def _clip(*, moves: bool) -> list[Image]:
    """A ground, sharp or soft, seen by a camera that turns or stands still, with a shape that walks."""
    random = np.random.default_rng(3)
    ground = cv2.resize(random.integers(0, 255, (48, 64, 3) if moves else (6, 8, 3), np.uint8), (128, 96))
    frames = []
    for number in range(24):
        turn = cv2.getRotationMatrix2D((64, 48), 7 * number * moves, 1)
        image = cv2.warpAffine(ground, turn, (128, 96), borderMode=cv2.BORDER_REFLECT)
        cv2.circle(image, (10 + 3 * number, 50), 12, (30, 200, 90), -1)
        frames.append(image.astype(np.uint8, copy=False))
    return frames


def _sent(clip: list[Image], crf: int | None) -> tuple[str, list[KeyCause], float]:
    """What status says, the keys, and the error of the last frames beside that of JPEG."""
    counted, receiver, ratios = CountedStreams(), Receiver(), []
    config = UplinkConfig(payload=PayloadKind.VIDEO, video=VideoConfig(crf=crf))
    streams = VideoStreams(config, 1, counted, lambda: 0.0, lambda: 0.5)
    for image in clip:
        video = streams.encode("camera", image)
        assert video is not None
        planes = receiver.takes(video)
        assert planes is not None
        streams.acknowledged(video)
        video_error, jpeg_error = errors(image, planes)
        ratios.append(math.log(video_error / jpeg_error))
    return _sent_now(config, streams), counted.keys, math.exp(np.mean(ratios[-12:]))


@pytest.mark.parametrize("moves", [False, True])
def test_still_or_moving_a_camera_gets_the_quality_of_jpeg(moves):
    """With one more key, which says why; again the same, and a factor that is named stays."""
    clip = _clip(moves=moves)
    said, keys, ratio = _sent(clip, None)
    assert 0.75 < ratio < 1.33
    assert keys == [KeyCause.FIRST, KeyCause.QUALITY]
    assert (
        said
        == f"video: H.264 of 416 pixels, as good as JPEG of quality 70; crf {16 if moves else 24} (camera)"
    )
    assert _sent(clip, None) == (said, keys, ratio)
    assert _sent(clip[:9], 35)[:2] == ("video: H.264 of 416 pixels, crf 35", [KeyCause.FIRST])
