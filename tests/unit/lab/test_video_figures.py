"""Figures of a clip, by hand: streaming accuracy, delays, identity, and clocks that send."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillover.common.types import NO_BOXES, Detections
from spillover.edge.tracking.stage import NO_TRACKS, TrackSummary
from spillover.lab.pairs.video.identity import Identity, Numbered, identity
from spillover.lab.pairs.video.labels import Truth
from spillover.lab.pairs.video.objects import link, mean_delay_s, objects_of
from spillover.lab.pairs.video.play import Output
from spillover.lab.pairs.video.sending import ByteClock, FrameClock, Moment, PolicyClock, Sender
from spillover.lab.pairs.video.streaming import Precision, f1_of, shown_at

TENTHS = np.arange(6) / 10


def at(*lefts: float, class_id: int = 0, confidence: float = 0.9) -> Detections:
    """Boxes of 10 x 10 pixels, one at each distance from the left."""
    left = np.array(lefts, np.float32)
    return Detections(
        np.stack([left, 0 * left, left + 10, 0 * left + 10], axis=1),
        np.full(len(left), confidence, np.float32),
        np.full(len(left), class_id, np.int32),
    )


def lefts(shown: list[Detections]) -> list[list[float]]:
    """Where the boxes lie, a list a frame."""
    return [boxes.xyxy[:, 0].tolist() for boxes in shown]


def numbered(boxes: Detections, *ids: int) -> Numbered:
    """Boxes with their numbers."""
    return Numbered(boxes, np.array(ids, np.int64))


def test_what_is_shown_is_the_newest_frame_of_which_something_was_said() -> None:
    """Frame 1 is late, so frame 0 stands until frame 2; answers to frames before that are too late."""
    outputs = [
        Output(0, 0.05, at(0)),
        Output(1, 0.35, at(100)),
        Output(2, 0.25, at(200)),
        Output(0, 0.45, at(7)),
    ]
    assert lefts(shown_at(TENTHS, outputs)) == [[], [0], [0], [200], [200], [200]]


def test_of_one_frame_the_last_word_counts() -> None:
    """The cloud's answer replaces the edge's, as long as no newer frame has been answered."""
    outputs = [Output(0, 0.0, at(0)), Output(0, 0.2, at(50)), Output(3, 0.3, at(9))]
    assert lefts(shown_at(TENTHS, outputs)) == [[0], [0], [50], [9], [9], [9]]


def test_f1_counts_boxes_of_judged_classes_alone() -> None:
    """One of two found makes 2/3; boxes of a class that the labels do not name are left out."""
    truth = Truth((at(0, 50), NO_BOXES), None, frozenset({0}))
    both = at(0).merged(at(50, class_id=3))
    assert f1_of([both, at(0, class_id=3)], truth).tolist() == pytest.approx([2 / 3, 1.0])


def test_average_precision_at_half_overlap() -> None:
    """All found is 1, nothing is 0, half of the objects found without a mistake is about a half."""
    precision = Precision(Truth((at(0, 50), at(0, 50))))
    assert precision.ap50([at(0, 50), at(0, 50)]) == pytest.approx(1.0)
    assert precision.ap50([NO_BOXES, NO_BOXES]) == 0.0
    assert precision.ap50([at(0), at(0)]) == pytest.approx(0.5, abs=0.01)
    assert Precision(Truth((NO_BOXES,))).ap50([at(0)]) is None


def test_boxes_of_one_object_are_linked_over_a_gap_of_a_second() -> None:
    """It moves and is lost for a moment: one object; after more than a second it is another."""
    times_s = np.array([0.0, 0.1, 0.2, 1.1, 2.3])
    numbers = link([at(0, 90), at(3, 90), at(90), at(6), at(6)], times_s)
    assert [ids.tolist() for ids in numbers] == [[0, 1], [0, 1], [1], [0], [2]]


def test_delay_is_from_entry_to_the_first_detection() -> None:
    """Found at once, after a second, and never: 0, 1 and the 2 seconds of its life, mean 1."""
    times_s = np.array([0.0, 1.0, 2.0])
    truth = Truth((at(0, 50, 90),) * 3, (np.arange(3),) * 3)
    shown = [at(0), at(50), at(50)]
    assert mean_delay_s(objects_of(truth, times_s), shown, times_s) == pytest.approx(1.0)


def test_an_object_of_less_than_a_second_is_not_judged() -> None:
    """Nothing else is there: there is no delay to speak of."""
    times_s = np.array([0.0, 0.5])
    truth = Truth((at(0), at(0)), (np.zeros(1, np.int64),) * 2)
    assert mean_delay_s(objects_of(truth, times_s), [NO_BOXES, NO_BOXES], times_s) is None


def test_tracks_that_follow_their_objects_are_perfect() -> None:
    """Numbers need not be the same, only stay the same."""
    truth = [numbered(at(0, 50), 1, 2)] * 4
    assert identity(truth, [numbered(at(50, 0), 7, 9)] * 4) == Identity(1.0, 0)


def test_a_change_of_number_is_a_switch_and_costs_identity() -> None:
    """One object over four frames, two of them under each number: IDTP 2, IDF1 4 / 8."""
    truth = [numbered(at(0), 1)] * 4
    tracks = [numbered(at(0), 5)] * 2 + [numbered(at(0), 6)] * 2
    assert identity(truth, tracks) == Identity(0.5, 1)


def test_two_objects_that_swap_numbers_switch_twice() -> None:
    """Each follows its own for three frames of four: IDTP 6, IDF1 12 / 16."""
    truth = [numbered(at(0, 50), 1, 2)] * 4
    tracks = [numbered(at(0, 50), 7, 9)] * 3 + [numbered(at(0, 50), 9, 7)]
    assert identity(truth, tracks) == Identity(0.75, 2)


def test_missed_and_invented_boxes_cost_identity_and_switch_nothing() -> None:
    """Two of four found, and one box of nothing: 2 x 2 / (4 + 3)."""
    truth = [numbered(at(0), 1)] * 4
    tracks = [numbered(at(0), 5), numbered(NO_BOXES), numbered(at(80), 6), numbered(at(0), 5)]
    assert identity(truth, tracks) == Identity(pytest.approx(4 / 7), 0)


def test_an_object_keeps_its_track_while_both_overlap() -> None:
    """A second track that lies better does not take it over (CLEAR MOT's first step)."""
    truth = [numbered(at(0), 1)] * 2
    tracks = [numbered(at(3), 5), numbered(at(3, 0), 5, 6)]
    assert identity(truth, tracks).switches == 0


def sent_by(sender: Sender, count: int, tracks: TrackSummary = NO_TRACKS) -> list[int]:
    """The numbers of the frames that a clock picks."""
    moments = (Moment(number, number / 10, tracks, 0.0) for number in range(count))
    return [moment.number for moment in moments if sender.wants(moment)]


def test_a_clock_of_bytes_sends_at_even_distances() -> None:
    """A tenth of the bytes in pictures of a fifth of the size: every second frame, from the first on."""
    full = np.full(20, 1000, np.int64)
    assert sent_by(ByteClock(0.1, full // 5, full), 20) == list(range(0, 20, 2))


@given(
    st.lists(st.integers(1, 1000), min_size=1, max_size=60),
    st.floats(0.0, 1.0),
    st.integers(1, 9),
)
def test_a_clock_of_bytes_never_sends_more_than_its_share(
    sizes: list[int], share: float, smaller: int
) -> None:
    """Whatever the frames weigh."""
    full = np.array(sizes, np.int64)
    payload = np.maximum(1, full // smaller)
    sent = sent_by(ByteClock(share, payload, full), len(full))
    assert payload[sent].sum() <= share * full.sum() + 1e-6


@pytest.mark.parametrize("late_s", [0.0, 0.2, 1.0])
def test_the_policy_spends_its_share_on_tracks_and_no_more(late_s: float) -> None:
    """Of 2 % most is spent, though answers are late; where there is nothing to serve nothing is sent."""
    full = np.full(600, 100_000, np.int64)
    people = TrackSummary(shown=8, stale=4.0, half_life_s=2.0)
    sent = sent_by(PolicyClock(0.02, full // 10, full, 60.0, late_s), 600, people)
    assert 0.4 < len(sent) * 0.1 / (0.02 * 600) <= 1.0
    assert not sent_by(PolicyClock(0.02, full // 10, full, 60.0, late_s), 600)


def test_a_clock_of_frames_sends_its_share() -> None:
    """A twentieth of a hundred frames is five, twenty apart."""
    assert sent_by(FrameClock(0.05), 100) == [0, 20, 40, 60, 80]
