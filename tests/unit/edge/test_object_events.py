"""What tracked objects do: each event once, settled once, whatever boxes, tracks and answers come."""

import itertools
from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillover.edge.events.machine import CLEAR, FORGET_S, MOST_GONE, MOST_OPEN, counts
from spillover.edge.events.values import Direction, Phase, Rules
from spillover.edge.results.delivery import EventKind
from tests.support.sightings import DOWN, LEFT_HALF, At, Watched

IN_LEFT, OUTSIDE = 0.2, 0.8


def test_an_object_appears_enters_dwells_leaves_and_is_lost() -> None:
    """Each once, in this order, however many frames it takes."""
    camera = Watched(Rules(zones=(replace(LEFT_HALF, dwell_s=0.2),)))
    assert camera.frame(At(7, OUTSIDE, 0.5)) == ["appeared 7 provisional"]
    assert camera.frame(At(7, IN_LEFT, 0.5)) == ["enter:left 7 provisional"]
    assert camera.frame(At(7, IN_LEFT, 0.5)) == []
    assert camera.frame(At(7, IN_LEFT, 0.5)) == ["dwell:left 7 provisional"]
    assert camera.frame(At(7, IN_LEFT, 0.5)) == []
    assert camera.frame(At(7, OUTSIDE, 0.5)) == ["leave:left 7 provisional"]
    assert camera.frame(ended=[7]) == ["lost 7 provisional"]


def test_a_track_that_ends_in_a_zone_leaves_it() -> None:
    """So that every `enter` has its `leave`, and nobody is counted for ever."""
    camera = Watched(Rules(zones=(LEFT_HALF,)))
    camera.frame(At(7, IN_LEFT, 0.5))
    assert counts(camera.rules, camera.state).zones == {"left": {0: 1}}
    assert camera.frame(ended=[7]) == ["leave:left 7 provisional", "lost 7 provisional"]
    assert counts(camera.rules, camera.state).zones == {"left": {}}


def test_a_box_that_trembles_on_a_border_is_told_once() -> None:
    """It leaves, and crosses, when it is clear of the border; and may come back."""
    camera = Watched(Rules(zones=(LEFT_HALF,), lines=(DOWN,)))
    camera.frame(At(1, 0.3, 0.2))
    for _ in range(5):
        assert camera.frame(At(1, 0.5 + CLEAR / 2, 0.5 + CLEAR / 2)) == []
        assert camera.frame(At(1, 0.5 - CLEAR / 2, 0.5 - CLEAR / 2)) == []
    assert camera.frame(At(1, 0.6, 0.6)) == ["cross:gate:in 1 provisional", "leave:left 1 provisional"]
    assert camera.frame(At(1, 0.4, 0.4)) == ["cross:gate:out 1 provisional", "enter:left 1 provisional"]


def test_a_track_that_is_hidden_for_some_frames_doubles_nothing() -> None:
    """It is neither lost nor seen anew, and has crossed what it crossed meanwhile; not counted, unseen."""
    camera = Watched(Rules(zones=(LEFT_HALF,), lines=(DOWN,)))
    camera.frame(At(1, IN_LEFT, 0.2))
    for _ in range(int(FORGET_S * 10)):
        assert camera.frame() == []
        assert counts(camera.rules, camera.state).zones == {"left": {}}
    assert camera.frame(At(1, IN_LEFT, 0.8)) == ["cross:gate:in 1 provisional"]
    assert counts(camera.rules, camera.state).zones == {"left": {0: 1}}


def test_a_track_that_is_not_shown_for_long_counts_as_ended() -> None:
    """Nobody is counted where results show nobody, and the state is bounded."""
    camera = Watched(Rules(zones=(LEFT_HALF,)))
    camera.frame(At(1, IN_LEFT, 0.2))
    told = [camera.frame() for _ in range(int(FORGET_S * 10) + 2)]
    assert [some for some in told if some] == [["leave:left 1 provisional", "lost 1 provisional"]]
    assert not camera.state.tracks


def test_a_line_is_crossed_at_its_own_length_alone() -> None:
    """Who goes around its end crosses nothing; who vanishes just behind it has crossed it."""
    short = replace(DOWN, end=np.array([0.5, 0.5]))
    camera = Watched(Rules(lines=(short,)))
    camera.frame(At(1, 0.8, 0.2), At(2, 0.2, 0.2))
    assert camera.frame(At(1, 0.8, 0.8), At(2, 0.2, 0.5 + CLEAR / 2)) == []
    assert camera.frame(ended=[2]) == ["cross:gate:in 2 provisional", "lost 2 provisional"]


def test_a_line_of_one_direction_tells_of_that_alone() -> None:
    """The other is neither told nor counted."""
    camera = Watched(Rules(lines=(replace(DOWN, directions=frozenset({Direction.OUT})),)))
    camera.frame(At(1, 0.5, 0.2))
    assert camera.frame(At(1, 0.5, 0.8)) == []
    assert camera.frame(At(1, 0.5, 0.2)) == ["cross:gate:out 1 provisional"]
    assert counts(camera.rules, camera.state).lines == {"gate": {Direction.IN: 0, Direction.OUT: 1}}


def test_size_age_and_class_decide_from_when_on_an_object_counts() -> None:
    """Once it does, it remains counted, though it shrinks or its class changes."""
    rules = Rules(zones=(LEFT_HALF,), classes=frozenset({1}), min_size=0.01, min_age_s=0.25)
    camera = Watched(rules)
    large = At(1, IN_LEFT, 0.9, class_id=1, side=30)
    for _ in range(3):
        assert camera.frame(large) == []
    assert camera.frame(replace(large, side=4)) == []
    assert camera.frame(replace(large, class_id=0)) == []
    assert camera.frame(large) == ["appeared 1 provisional", "enter:left 1 provisional"]
    assert camera.frame(replace(large, side=2, class_id=0)) == []
    assert counts(rules, camera.state).zones == {"left": {0: 1}}


def test_a_zone_counts_the_classes_that_it_wants() -> None:
    """Others may not enter; one inside whose class flickers stays counted as what it was."""
    camera = Watched(Rules(zones=(replace(LEFT_HALF, classes=frozenset({1})),)))
    assert camera.frame(At(1, IN_LEFT, 0.5)) == ["appeared 1 provisional"]
    assert camera.frame(At(1, IN_LEFT, 0.5, class_id=1)) == ["enter:left 1 provisional"]
    assert camera.frame(At(1, IN_LEFT, 0.5)) == []
    assert counts(camera.rules, camera.state).zones == {"left": {1: 1}}


def test_the_cloud_confirms_what_only_the_edge_saw() -> None:
    """Each provisional event is told once more; what follows is confirmed at once."""
    camera = Watched(Rules(zones=(LEFT_HALF,)))
    camera.frame(At(1, IN_LEFT, 0.5))
    first = list(camera.told)
    assert camera.answer(shown=[1], seen=[1]) == ["appeared 1 confirmed", "enter:left 1 confirmed"]
    assert [event.event_id for event in camera.told[2:]] == [event.event_id for event in first]
    assert camera.answer(shown=[1], seen=[1]) == []
    assert camera.frame(At(1, OUTSIDE, 0.5)) == ["leave:left 1 confirmed"]
    assert camera.answer(shown=[1]) == []  # another answer that misses it takes nothing back


def test_a_box_that_the_cloud_saw_last_confirms_too() -> None:
    """Whether an answer or the next frame brings the news."""
    camera = Watched(Rules())
    camera.frame(At(1, IN_LEFT, 0.5))
    assert camera.frame(At(1, IN_LEFT, 0.5, by_cloud=True)) == ["appeared 1 confirmed"]
    assert camera.frame(At(2, IN_LEFT, 0.5, by_cloud=True)) == ["appeared 2 confirmed"]


def test_the_cloud_withdraws_what_it_does_not_see() -> None:
    """Nobody is in the zone then, no crossing counts, and nothing more is told of the object."""
    camera = Watched(Rules(zones=(LEFT_HALF,), lines=(DOWN,)))
    camera.frame(At(1, IN_LEFT, 0.2))
    camera.frame(At(1, IN_LEFT, 0.8))
    assert camera.answer(shown=[1]) == [
        "appeared 1 withdrawn",
        "enter:left 1 withdrawn",
        "cross:gate:in 1 withdrawn",
    ]
    now = counts(camera.rules, camera.state)
    assert now.zones == {"left": {}}
    assert now.lines["gate"] == {Direction.IN: 0, Direction.OUT: 0}
    assert camera.frame(At(1, OUTSIDE, 0.2)) == []
    assert camera.frame(ended=[1]) == []


def test_an_object_that_the_cloud_sees_after_all_appears_anew() -> None:
    """The events that were withdrawn remain so."""
    camera = Watched(Rules(zones=(LEFT_HALF,)))
    camera.frame(At(1, IN_LEFT, 0.5))
    camera.answer(shown=[1])
    assert camera.answer(shown=[1], seen=[1]) == []
    assert camera.frame(At(1, IN_LEFT, 0.5)) == ["appeared 1 confirmed", "enter:left 1 confirmed"]


def test_what_was_withdrawn_stays_so_however_long_it_is_hidden() -> None:
    """As long as its track lives nothing is told of it, unless the cloud sees it."""
    camera = Watched(Rules())
    camera.frame(At(1, IN_LEFT, 0.5))
    camera.answer(shown=[1])
    for _ in range(int(FORGET_S * 10) + 5):
        camera.frame()
    assert camera.frame(At(1, IN_LEFT, 0.5)) == []
    camera.frame(ended=[1])
    assert not camera.state.tracks


def test_an_answer_settles_what_was_told_before_an_object_was_hidden_for_long() -> None:
    """It was lost and has appeared anew: all of it is confirmed."""
    camera = Watched(Rules(zones=(LEFT_HALF,), settle_s=60.0))
    camera.frame(At(1, IN_LEFT, 0.5))
    for _ in range(int(FORGET_S * 10) + 5):
        camera.frame()
    assert camera.frame(At(1, OUTSIDE, 0.5)) == ["appeared 1 provisional"]
    assert camera.answer(shown=[1], seen=[1]) == [
        "appeared 1 confirmed",
        "enter:left 1 confirmed",
        "leave:left 1 confirmed",
        "lost 1 confirmed",
        "appeared 1 confirmed",
    ]
    assert not camera.state.gone


@pytest.mark.parametrize(("seen", "phase"), [([1], "confirmed"), ([], "withdrawn")])
def test_an_answer_settles_an_object_that_is_gone(seen: list[int], phase: str) -> None:
    """As long as it may come; without one the events stay provisional."""
    camera = Watched(Rules(settle_s=1.0))
    camera.frame(At(1, IN_LEFT, 0.5))
    camera.frame(ended=[1])
    assert camera.answer(shown=[1], seen=seen) == [f"appeared 1 {phase}", f"lost 1 {phase}"]
    camera.frame(At(2, IN_LEFT, 0.5))
    camera.frame(ended=[2])
    for _ in range(12):
        assert camera.frame() == []
    assert not camera.state.gone
    assert camera.answer(shown=[2], seen=[2]) == []


def test_the_best_frame_is_the_one_of_the_highest_confidence_so_far() -> None:
    """The cloud's confidence counts as well, for the frame that it answered."""
    camera = Watched(Rules(zones=(LEFT_HALF,)))
    camera.frame(At(1, OUTSIDE, 0.5, confidence=0.3))
    camera.frame(At(1, OUTSIDE, 0.5, confidence=0.6))
    camera.frame(At(1, IN_LEFT, 0.5, confidence=0.4))
    assert [event.best_frame_id for event in camera.told] == ["cam-b-0", "cam-b-1"]
    camera.answer(shown=[1], seen=[1], frame_id="cam-b-2")
    assert camera.told[-1].best_frame_id == "cam-b-2"


def test_broken_boxes_and_doubled_tracks_do_no_harm() -> None:
    """A box without numbers is passed over; of two boxes of one track the first, more confident counts."""
    camera = Watched(Rules(zones=(LEFT_HALF,)))
    broken = At(1, float("nan"), 0.5)
    assert camera.frame(broken, At(2, IN_LEFT, 0.5), At(2, OUTSIDE, 0.5)) == [
        "appeared 2 provisional",
        "enter:left 2 provisional",
    ]
    assert camera.frame(broken) == []


def test_what_waits_for_the_cloud_is_bounded() -> None:
    """Of one object, and of those that are gone."""
    camera = Watched(Rules(zones=(LEFT_HALF,), settle_s=1e9))
    for _ in range(MOST_OPEN):
        camera.frame(At(1, IN_LEFT, 0.5))
        camera.frame(At(1, OUTSIDE, 0.5))
    assert len(camera.state.tracks[1].open) == MOST_OPEN
    many = range(2, MOST_GONE + 12)
    camera.frame(*(At(number, OUTSIDE, 0.5) for number in many))
    camera.frame(ended=many)
    assert len(camera.state.gone) == MOST_GONE


STEP = st.one_of(
    st.tuples(
        st.just("frame"),
        st.lists(
            st.builds(
                At,
                st.integers(1, 4),
                st.floats(0, 1, width=32),
                st.floats(0, 1, width=32),
                st.integers(0, 1),
                st.floats(0, 1, width=32),
                st.booleans(),
            ),
            max_size=5,
        ),
        st.lists(st.integers(1, 4), max_size=2),
    ),
    st.tuples(
        st.just("answer"), st.lists(st.integers(1, 4), max_size=4), st.lists(st.integers(1, 4), max_size=2)
    ),
)


@given(st.lists(STEP, max_size=40))
def test_whatever_comes_each_event_is_told_once_and_counts_are_right(
    steps: list[tuple[str, list, list]],
) -> None:
    """Told once, settled at most once; `leave` after `enter`; counts never negative, and the events'."""
    rules = Rules(
        zones=(LEFT_HALF, replace(LEFT_HALF, name="one", classes=frozenset({1}))), lines=(DOWN,), settle_s=0.5
    )
    camera = Watched(rules)
    for what, first, second in steps:
        if what == "frame":
            camera.frame(*first, ended=second)
        else:
            camera.answer(shown=first, seen=second)
        now = counts(rules, camera.state)
        assert all(many > 0 for by_class in now.zones.values() for many in by_class.values())
        assert all(many >= 0 for ways in now.lines.values() for many in ways.values())
        here = {number for number, track in camera.state.tracks.items() if track.seen_s == camera.state.at_s}
        _check(camera, now.zones, now.lines["gate"], here)


def _check(camera, zones, gate, here):
    told, settled = Counter(), Counter()
    inside, withdrawn = defaultdict(int), set()
    for event in camera.told:
        (settled if event.settles else told)[event.event_id] += 1
        assert event.settles or event.phase is not Phase.WITHDRAWN
        if event.phase is Phase.WITHDRAWN:
            withdrawn.add(event.event_id)
    assert not settled - told
    assert set(told.values()) <= {1}
    assert set(settled.values()) <= {1}
    crossed = Counter()
    for event in camera.told:
        if event.settles or event.event_id in withdrawn:
            continue
        if event.kind in {EventKind.ENTER, EventKind.LEAVE}:
            key = (event.zone, event.track_id)
            inside[key] += 1 if event.kind is EventKind.ENTER else -1
            assert inside[key] in {0, 1}
        crossed[event.direction] += event.kind is EventKind.CROSS
    by_zone = {
        name: sum(many for (zone, track_id), many in inside.items() if zone == name and track_id in here)
        for name in zones
    }
    assert by_zone == {name: sum(by_class.values()) for name, by_class in zones.items()}
    assert {way: crossed[way.value] for way in Direction} == gate


FAR = st.one_of(st.floats(0, 0.5 - 2 * CLEAR), st.floats(0.5 + 2 * CLEAR, 1))


@given(st.lists(st.tuples(st.floats(0, 1, width=32), FAR), min_size=1, max_size=30))
def test_crossings_add_up_to_the_way(path: list[tuple[float, float]]) -> None:
    """Over a line through the whole frame: downwards less upwards is the change of sides; they take turns."""
    camera = Watched(Rules(lines=(DOWN,)))
    ways = [word for x, y in path for word in camera.frame(At(1, x, y)) if word.startswith("cross")]
    down = [y > 0.5 for _, y in path]
    expected = ["in" if now else "out" for before, now in itertools.pairwise(down) if before != now]
    assert [word.split(":")[2].split()[0] for word in ways] == expected
