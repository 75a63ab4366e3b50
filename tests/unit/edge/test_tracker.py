"""The tracker: the cloud's boxes reach the frames between, also late, and nothing is shown that is gone."""

import math

import numpy as np
import pytest

from spillover.common.tasks.detection import pairwise_iou
from spillover.common.types import NO_BOXES, Detections, ModelId, SeenBy
from spillover.edge.tracking.stage import OnReply, Shown
from spillover.edge.tracking.tracker import MOST_BOXES, Tracker, TrackerSettings
from spillover.edge.uplink.call_status import CallStatus
from spillover.edge.uplink.outcome import CallFailure, CloudAnswer
from tests.support.moving import Walker, World

THRESHOLD = 0.3
FRAME_S = 0.1
TWO = World((Walker(40, 60, dx=3), Walker(220, 120, dx=-2, class_id=2)))


def says(boxes: Detections) -> CloudAnswer:
    """The cloud's answer."""
    return CloudAnswer(boxes, ModelId("big", "1"), 0.0, 0.0, 0.0, 0.0)


class Camera:
    """A tracker with the frames of a world; the edge sees nothing unless it is told what."""

    def __init__(self, world: World, settings: TrackerSettings | None = None) -> None:
        self.world = world
        self.tracker = Tracker(settings or TrackerSettings(), THRESHOLD)
        self.frame = -1

    def next(self, edge: Detections = NO_BOXES, world: World | None = None) -> Shown:
        """One more frame."""
        self.frame += 1
        picture = (world or self.world).picture(self.frame)
        return self.tracker.correct(edge, picture, self.frame * FRAME_S)

    def send(self) -> OnReply:
        """The newest frame is sent."""
        return self.tracker.sent(f"frame {self.frame}", self.frame * FRAME_S, NO_BOXES)


def right(shown: Shown, truth: Detections, least: float = 0.7) -> bool:
    """Whether the shown boxes are those of the truth, whatever their order."""
    got = shown.prediction.boxes
    assert got is not None
    if len(got) != len(truth):
        return False
    iou = pairwise_iou(truth.xyxy, got.xyxy)
    iou[truth.class_id[:, None] != got.class_id[None]] = 0
    return bool((iou.max(axis=1, initial=1.0) >= least).all())


def test_boxes_of_the_cloud_move_with_what_they_show():
    """An answer is shown on the frames after it where its objects are then, though the edge sees none."""
    camera = Camera(TWO)
    camera.next()
    camera.send()(says(TWO.boxes(0)))
    for frame in range(1, 11):
        shown = camera.next()
        assert right(shown, TWO.boxes(frame)), frame
        assert shown.carried_from == "frame 0"
        assert shown.tracks is not None
        assert {mark.track_id for mark in shown.tracks} == {1, 2}
        assert all(mark.confirmed_by is SeenBy.CLOUD for mark in shown.tracks)
        assert all(mark.age_s == pytest.approx(frame * FRAME_S) for mark in shown.tracks)


@pytest.mark.parametrize("late", [1, 5, 20])
def test_a_late_answer_is_brought_to_the_present(late):
    """Boxes of a frame some time ago appear where their objects are now, however many frames later."""
    camera = Camera(TWO)
    camera.next()
    reply = camera.send()
    for _ in range(late):
        camera.next()
    reply(says(TWO.boxes(0)))
    assert right(camera.next(), TWO.boxes(late + 1))


def test_an_answer_gets_the_tracks_of_its_own_frame():
    """The outcome is given back with the numbers that its objects had, and new ones for those unknown."""
    camera = Camera(TWO)
    camera.next(TWO.boxes(0, 0.8, 1))
    reply = camera.send()
    for frame in range(1, 6):
        camera.next(TWO.boxes(frame, 0.8, 1))
    outcome = reply(says(TWO.boxes(0)))
    assert isinstance(outcome, CloudAnswer)
    assert outcome.tracks is not None
    new, known = (mark.track_id for mark in outcome.tracks)
    assert (known, new) == (1, 2)
    assert camera.next().tracks is not None
    assert {track.track_id for track in camera.tracker.state.tracks} == {1, 2}


def test_without_the_cloud_the_edge_is_shown():
    """Before any answer the result has exactly the boxes that the edge reports, bit by bit."""
    camera = Camera(TWO)
    for frame in range(5):
        boxes = TWO.boxes(frame + 0.1234, 0.31, frame % 2)
        unsure = Detections(
            np.concatenate([boxes.xyxy, boxes.xyxy + 50]),
            np.append(boxes.confidence, np.float32(0.1)),
            np.append(boxes.class_id, np.int32(5)),
        )
        got = camera.next(unsure).prediction.boxes
        assert got is not None
        np.testing.assert_array_equal(got.xyxy, boxes.xyxy)
        np.testing.assert_array_equal(got.confidence, boxes.confidence)


def test_a_cut_ends_all_tracks():
    """Nothing of another scene is carried over, and the numbers that ended are told."""
    camera = Camera(TWO)
    camera.next()
    camera.send()(says(TWO.boxes(0)))
    assert len(camera.next().prediction.boxes or ()) == 2
    shown = camera.next(world=World((), seed=9))
    assert len(shown.prediction.boxes or ()) == 0
    assert shown.ended == (1, 2)
    assert camera.tracker.inputs is not None
    assert camera.tracker.inputs.cut


def test_what_the_cloud_no_longer_has_is_hidden():
    """A newer answer without an object hides it at once, though the edge goes on to see it."""
    camera = Camera(TWO)
    camera.next()
    camera.send()(says(TWO.boxes(0)))
    camera.next()
    camera.send()(says(TWO.boxes(1, 0.8, 1)))
    assert right(camera.next(TWO.boxes(2)), TWO.boxes(2, 0.8, 1))


def test_a_box_that_leaves_the_picture_ends():
    """A walker that walks out takes its track along."""
    world = World((Walker(10, 60, dx=-4),))
    camera = Camera(world)
    camera.next()
    camera.send()(says(world.boxes(0)))
    ended = [number for _ in range(14) for number in camera.next().ended]
    assert ended == [1]


def test_a_camera_that_pans_takes_boxes_along():
    """Objects that stand in the scene move in the picture as the background does."""
    world = World((Walker(120, 60, dx=-3, dy=1),), camera=(-3.0, 1.0))
    camera = Camera(world)
    camera.next()
    camera.send()(says(world.boxes(0)))
    for frame in range(1, 11):
        assert right(camera.next(), world.boxes(frame)), frame
    assert camera.tracker.inputs is not None
    assert camera.tracker.inputs.camera.dx == pytest.approx(-3, abs=0.3)


def test_a_frame_out_of_order_is_counted_and_changes_nothing():
    """A frame that is not newer than the last one shows the edge's answer, and no track moves."""
    camera = Camera(TWO)
    camera.next(TWO.boxes(0))
    before = camera.tracker.state
    shown = camera.tracker.correct(TWO.boxes(0), TWO.picture(0), -1.0)
    assert shown.tracks is None
    assert camera.tracker.state is before
    assert camera.tracker.dropped["frame_out_of_order"] == 1


def test_a_picture_of_another_size_is_another_scene():
    """A camera that changes its size begins anew."""
    camera = Camera(TWO)
    camera.next()
    camera.send()(says(TWO.boxes(0)))
    camera.next()
    shown = camera.tracker.correct(NO_BOXES, np.full((100, 90, 3), 50, np.uint8), 5.0)
    assert shown.ended == (1, 2)
    assert len(shown.prediction.boxes or ()) == 0


def test_an_answer_for_a_forgotten_frame_is_counted():
    """An answer so late that its frame is forgotten comes back without tracks."""
    camera = Camera(TWO)
    camera.next()
    reply = camera.send()
    for _ in range(40):
        camera.next()
        camera.send()
    outcome = reply(says(TWO.boxes(0)))
    assert isinstance(outcome, CloudAnswer)
    assert outcome.tracks is None
    assert camera.tracker.dropped["answer_too_old"] == 1


def test_boxes_of_a_broken_model_are_counted():
    """Sides that are not numbers, and boxes without area, are left out of tracks; the others are tracked."""
    camera = Camera(TWO)
    good = TWO.boxes(0)
    broken = Detections(
        np.concatenate(
            [good.xyxy, np.array([[np.nan, 0, 5, 5], [9, 9, 9, 20], [0, 0, np.inf, 4]], np.float32)]
        ),
        np.full(5, 0.8, np.float32),
        np.append(good.class_id, np.zeros(3, np.int32)),
    )
    assert right(camera.next(broken), good)
    outcome = camera.send()(says(broken))
    assert isinstance(outcome, CloudAnswer)
    assert outcome.tracks is not None
    assert len(outcome.tracks) == 5
    assert right(camera.next(), TWO.boxes(1))
    assert camera.tracker.dropped["box_unusable"] == 6


def test_boxes_beyond_those_that_are_tracked_are_the_clouds_all_the_same():
    """An answer of hundreds of boxes: each was seen by the cloud, whether it is tracked or not."""
    camera = Camera(TWO)
    camera.next(TWO.boxes(0))
    count = MOST_BOXES + 20
    left = np.arange(count, dtype=np.float32)
    xyxy = np.stack([left, left, left + 30, left + 30], axis=1)
    outcome = camera.send()(
        says(Detections(xyxy, np.full(count, 0.8, np.float32), np.zeros(count, np.int32)))
    )
    assert isinstance(outcome, CloudAnswer)
    assert {mark.confirmed_by for mark in outcome.tracks or ()} == {SeenBy.CLOUD}
    assert camera.tracker.dropped["too_many_boxes"] == 20


def test_age_since_the_newest_sent_frame():
    """It counts from the newest frame in flight or answered; a failed call gives the age back."""
    camera = Camera(TWO)
    camera.next()
    assert camera.tracker.since_last_offload_s(0.0) == math.inf
    first = camera.send()
    camera.next()
    second = camera.send()
    assert camera.tracker.since_last_offload_s(0.3) == pytest.approx(0.2)
    first(says(NO_BOXES))
    failure = CallFailure(CallStatus.UNAVAILABLE)
    assert second(failure) is failure
    assert camera.tracker.since_last_offload_s(0.3) == pytest.approx(0.3)
