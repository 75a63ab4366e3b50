"""The step of the tracker: what is shown follows what the cloud has said of such tracks, and limits hold."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillover.edge.tracking.association import associate, overlaps
from spillover.edge.tracking.flow import SmallFrame
from spillover.edge.tracking.learned import Key, Learned, SpanKey
from spillover.edge.tracking.life import MOST_TRACKS, step, tracks_at
from spillover.edge.tracking.presentation import shown
from spillover.edge.tracking.ring import SPACING_S, Ring
from spillover.edge.tracking.values import Answer, Box, Motion, StepInputs, TrackerState

SIZE = (640, 480)
EVERY_S = 0.1


class Told:
    """A state, and steps without pixels: nothing moves unless it is said."""

    def __init__(self, report_threshold: float = 0.3) -> None:
        self.state = TrackerState(report_threshold)
        self.frame = -1
        self.boxes: tuple[Box, ...] = ()

    def next(self, *boxes: Box, said: tuple[Box, ...] | None = None, cut: bool = False) -> set[int]:
        """One more frame with these boxes of the edge; the cloud's for the frame before. Numbers shown."""
        self.frame += 1
        answers = () if said is None else (self.answer(said),)
        inputs = StepInputs(
            captured_s=self.frame * EVERY_S,
            width=SIZE[0],
            height=SIZE[1],
            boxes=boxes,
            cut=cut,
            sent_before=said is not None,
            motions=tuple(Motion(0.0, 0.0) for _ in self.state.tracks),
            answers=answers,
        )
        self.state, self.boxes = step(self.state, inputs), boxes
        return {mark.track_id for mark in shown(self.state, boxes).tracks or ()}

    def answer(self, said: tuple[Box, ...]) -> Answer:
        """An answer for the newest frame; boxes belong to the track that lies there, or are new."""
        by_place = {track.xyxy: track.track_id for track in self.state.tracks}
        free = iter(range(self.state.next_id, self.state.next_id + len(said)))
        numbers = tuple(by_place.get(box[:4]) or next(free) for box in said)
        still = tuple(None if box[:4] in by_place else Motion(0.0, 0.0) for box in said)
        return Answer(self.state.captured_s, f"frame {self.frame}", said, numbers, moved=still)


def box(place: int, confidence: float = 0.8, class_id: int = 0) -> Box:
    """One of 100 places that do not touch."""
    x, y = 60.0 * (place % 10), 45.0 * (place // 10)
    return Box(x, y, x + 40, y + 40, confidence, class_id)


def test_what_the_cloud_has_often_denied_is_no_longer_shown():
    """Births of a confidence that the cloud does not confirm are hidden; those that it confirms are shown."""
    told = Told()
    told.next()
    for place in range(30):
        told.next(box(place, 0.35), box(50 + place, 0.75))
        told.next(said=(box(50 + place, 0.9),))
    faint, bright = box(99, 0.35), box(49, 0.75)
    numbers = told.next(faint, bright)
    confident = {track.track_id for track in told.state.tracks if track.xyxy == bright[:4]}
    doubted = {track.track_id for track in told.state.tracks if track.xyxy == faint[:4]}
    assert confident <= numbers
    assert not doubted & numbers


def test_the_first_frame_of_a_scene_shows_what_the_edge_reports():
    """After a cut nothing that was learned hides a box: unrelated pictures are as they were."""
    told = Told()
    told.next()
    for place in range(30):
        told.next(box(place, 0.35))
        told.next(said=())
    assert not told.next(box(99, 0.35)) & {
        track.track_id for track in told.state.tracks if track.born_s == 6.1
    }
    told.next(box(1, 0.35), cut=True)
    result = shown(told.state, told.boxes)
    assert result.prediction.boxes is not None
    assert result.prediction.boxes.xyxy.tolist() == [list(box(1)[:4])]


def test_a_box_of_another_class_on_a_confirmed_track_competes_with_it():
    """One object is shown once: as the cloud said, until that is older than the edge is sure of its own."""
    told = Told()
    told.next()
    told.next(said=(box(5, 0.9, class_id=2),))
    cloud, edge = told.next(box(5, 0.7, class_id=7)), set[int]()
    assert cloud == {told.state.tracks[0].track_id}
    for _ in range(10):
        edge = told.next(box(5, 0.7, class_id=7))
        assert len(edge) == 1
    assert edge == {told.state.tracks[1].track_id}


def test_what_neither_side_is_sure_of_is_not_carried_for_long():
    """A faint box of the cloud is gone from its own next answers: it ends before one that it was sure of."""
    told = Told()
    told.next()
    told.next(said=(box(5, 0.9), box(7, 0.32)))
    assert len(told.next()) == 2
    for _ in range(10):
        left = told.next()
    assert left == {track.track_id for track in told.state.tracks if track.cloud_confidence == 0.9}


def test_a_confirmed_track_has_the_confidence_of_the_surer_side():
    """What the cloud was hardly sure of, and the edge is sure of now, counts as sure."""
    told = Told()
    told.next()
    told.next(box(5, 0.7), said=(box(5, 0.31),))
    boxes = shown(told.state, told.boxes).prediction.boxes
    assert boxes is not None
    assert boxes.confidence.tolist() == [pytest.approx(0.7)]


def test_more_boxes_than_there_may_be_tracks_are_counted():
    """Tracks have a limit, and what found no place is told."""
    told = Told()
    many = [Box(float(at), 1.0, at + 0.9, 9.0, 0.8, at) for at in range(MOST_TRACKS + 7)]
    wide = [replace_width(one) for one in many]
    told.next(*wide)
    assert len(told.state.tracks) == MOST_TRACKS
    assert told.state.refused == 7


def replace_width(one: Box) -> Box:
    """Wide enough to live."""
    return one._replace(right=one.left + 5)


def test_an_answer_for_another_scene_teaches_and_carries_nothing():
    """The cloud's boxes of a frame before a cut are not shown after it."""
    told = Told()
    told.next(box(1))
    answer = told.answer((box(2),))
    inputs = StepInputs(0.1, *SIZE, (), cut=True, sent_before=True, answers=(replace_moved(answer),))
    state = step(told.state, replace(inputs, motions=(Motion(0.0, 0.0),)))
    assert state.tracks == ()
    assert state.learned.counts
    assert tracks_at(state, 0.0) is not None


def replace_moved(answer: Answer) -> Answer:
    """Without motion: there is none over a cut."""
    return replace(answer, moved=tuple(None for _ in answer.boxes))


def test_a_frame_that_is_not_newer_changes_nothing():
    """The step keeps its state."""
    told = Told()
    told.next(box(1))
    assert step(told.state, StepInputs(0.0, *SIZE, (box(3),))) is told.state


BOXES = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(1, 30), st.integers(0, 1)), max_size=8
)


@given(BOXES, BOXES)
def test_association_takes_each_once_and_leaves_no_pair_behind(ours, theirs):
    """Pairs share a class and overlap enough; of two boxes that are left none could be a pair."""
    a, b = (
        [Box(x, y, x + side, y + side, 0.5, kind) for x, y, side, kind in group] for group in (ours, theirs)
    )
    pairs = associate(a, [one.class_id for one in a], b, [one.class_id for one in b], 0.3)
    assert len(set(pairs.values())) == len(pairs)
    iou = overlaps(a, b) if a and b else np.zeros((len(a), len(b)))
    for at, other in pairs.items():
        assert a[at].class_id == b[other].class_id
        assert iou[at, other] >= np.float32(0.3)
    left = set(range(len(b))) - set(pairs.values())
    for at in set(range(len(a))) - set(pairs):
        assert not any(iou[at, other] >= 0.3 and a[at].class_id == b[other].class_id for other in left)


def test_the_ring_keeps_sent_frames_and_some_between():
    """Its bytes are bounded, the oldest pictures go first, and a path begins at the frame asked for."""
    grey = np.zeros((10, 10), np.uint8)
    ring = Ring(most_bytes=1000)
    for at in range(100):
        ring.add(SmallFrame(grey, at * 0.03, 10, 10, np.zeros(1, np.float32)), sent=at == 97)
    assert ring.size_bytes <= 1000
    path = ring.path(97 * 0.03, 8)
    assert path[0].captured_s == pytest.approx(2.91)
    assert ring.path(0.0, 8) == []
    oldest = min(frame.captured_s for frame in ring._kept)
    spaced = ring.path(oldest, 4)
    assert len(spaced) == 4
    assert all(b.captured_s - a.captured_s >= SPACING_S for a, b in itertools.pairwise(spaced))


@given(st.lists(st.booleans(), max_size=200))
def test_a_learned_share_is_a_share(answers):
    """Between nothing and all, nearer to the newest answers than the prior is."""
    learned, key = Learned(), Key("new", True, 4)
    for answer in answers:
        learned = learned.observed(key, confirmed=answer)
    assert 0 < learned.share(key, 0.5) < 1
    if answers and all(answers):
        assert learned.share(key, 0.5) > 0.5


def test_the_half_life_is_that_of_what_was_carried():
    """Boxes of which a tenth is wrong after a second live for about seven."""
    learned = Learned()
    for at in range(1000):
        learned = learned.survived(SpanKey(0), 1.0, right=at % 10 != 0)
    assert learned.half_life_s == pytest.approx(10 * math.log(2), rel=0.25)
    assert Learned().half_life_s == math.inf
    assert learned.survival(SpanKey(0), 1.0) == pytest.approx(0.9, abs=0.05)


@pytest.mark.parametrize("key", [SpanKey(0), SpanKey(2), SpanKey(3, faint=True)])
def test_a_box_that_was_carried_for_hours_and_is_wrong_has_a_survival(key: SpanKey):
    """After an outage the first answer denies a track: no logarithm is taken of 0."""
    learned = Learned().survived(key, 40_000.0, right=False)
    assert 0 <= learned.survival(key, 10.0) <= 1
    assert learned.survival(key, 0.0) == 1


def test_an_older_answer_begins_nothing_that_a_newer_one_did_not_have():
    """Answers that overtake each other: what the newest has not seen is not shown again."""
    told = Told()
    told.next()
    older = told.answer((box(5, 0.9),))
    told.next(said=())
    told.next(said=(box(1, 0.9),))
    inputs = StepInputs(
        captured_s=told.state.captured_s + EVERY_S,
        width=SIZE[0],
        height=SIZE[1],
        boxes=(),
        motions=tuple(Motion(0.0, 0.0) for _ in told.state.tracks),
        answers=(replace(older, track_ids=(70,)),),
    )
    assert [track.xyxy for track in step(told.state, inputs).tracks] == [box(1)[:4]]


def test_what_the_cloud_has_seen_finds_room_among_many_births():
    """An edge that sees hundreds of things that are none does not keep the cloud's boxes out."""
    told = Told()
    many = [Box(3.0 * at, 1.0, 3.0 * at + 9, 9.0, 0.8, at) for at in range(MOST_TRACKS)]
    told.next(*many)
    told.next(*many, said=(*many[:-1], box(55, 0.9, class_id=999)))
    assert len(told.state.tracks) == MOST_TRACKS
    assert box(55)[:4] in [track.xyxy for track in told.state.tracks if track.confirmed]
    assert told.state.refused > 0


def test_a_track_that_the_edge_never_saw_has_an_age():
    """The cloud saw it and then did not: whoever shows it says a number of seconds."""
    told = Told()
    told.next()
    told.next(said=(box(5, 0.9),))
    told.next(said=())
    (track,) = told.state.tracks
    assert not track.confirmed
    assert track.seen_s == 0.0
