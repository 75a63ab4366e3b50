"""Quality of a run on video: what is newest at each instant, tracks, and labelled objects."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from spillover.common.types import NO_BOXES, Detections
from spillover.edge.sinks.record import BoxRecord, Record
from spillover.lab.loadtest.quality import over_edges, quality_figures
from spillover.lab.loadtest.reference import Reference, open_reference
from spillover.lab.pairs.video.labels import Truth
from spillover.lab.terminal import Silent
from tests.support.clips import write_pictures
from tests.support.models import bright_detector
from tests.unit.lab.test_loadtest_outcomes import FPS, WINDOW, record

PASS = 5
"""Pictures of the source, which is played twice in the window."""


def at(left: float) -> list[float]:
    """A box of 20 by 20 pixels."""
    return [left, 0.0, left + 20.0, 20.0]


def truth_of(number: int) -> Detections:
    """One box, which jumps by its own width from picture to picture."""
    box = np.array([at(30.0 * (number % PASS))], np.float32)
    return Detections(box, np.full(1, 0.9, np.float32), np.zeros(1, np.int32))


def said(number: int, total_s: float = 0.01, *, by: str = "edge", track_id: int | None = None) -> Record:
    """A right answer."""
    left = 30.0 * (number % PASS)
    seen = "cloud" if by == "cloud" else "edge"
    marks = {} if track_id is None else {"track_id": track_id, "confirmed_by": seen, "age_s": 0.0}
    box = BoxRecord(at(left), 0.9, 0, None, **marks)  # type: ignore[arg-type]
    return record(number, total_s, classes=None, boxes=[box], answered_by=by)


def reference(**changes: object) -> Reference:
    """The right boxes of all pictures."""
    return Reference("clip", tuple(truth_of(n) for n in range(PASS)), **changes)  # type: ignore[arg-type]


def test_an_answer_counts_until_the_next_one() -> None:
    """Right answers that come at once are a frame old when the next is taken: wrong where things jump."""
    figures = quality_figures([said(n) for n in range(30)], FPS, WINDOW, reference())
    assert figures["agreement"] == 1
    assert figures["streaming"] == 0
    still = Reference("clip", (truth_of(0),) * PASS)
    standing = [record(n, classes=None, boxes=said(0).boxes) for n in range(30)]
    assert quality_figures(standing, FPS, WINDOW, still)["streaming"] == 1


def test_an_edge_that_begins_elsewhere_is_judged_by_what_it_saw() -> None:
    """Its first frame is not the clip's first, and an object of the next pass is another one."""
    shifted = [said(n + 2) for n in range(30)]
    answers = [
        msgspec.structs.replace(one, sequence=n, captured_unix_s=said(n).captured_unix_s)
        for n, one in enumerate(shifted)
    ]
    assert quality_figures(answers, FPS, WINDOW, reference(skip=2))["agreement"] == 1
    assert quality_figures(answers, FPS, WINDOW, reference())["agreement"] < 1
    ids = tuple(np.zeros(1, np.int64) for _ in range(PASS))
    objects = reference(skip=2, objects=Truth(tuple(map(truth_of, range(PASS))), ids)).objects_at([2, 3])
    assert objects is not None
    assert objects.ids is not None
    assert [int(one[0]) for one in objects.ids] == [0, 1]


def test_frames_that_nobody_answers_are_judged_by_what_was_there() -> None:
    """Every instant counts in the streaming accuracy, and agreement has the answered frames alone."""
    still = Reference("clip", tuple(truth_of(0) if n < 3 else NO_BOXES for n in range(PASS)))
    answered = [
        record(n, classes=None, boxes=said(0).boxes if n % PASS < 3 else [])
        for n in range(30)
        if n % PASS not in {3, 4}
    ]
    figures = quality_figures(answered, FPS, WINDOW, still)
    assert figures["agreement"] == 1
    assert figures["streaming"] == pytest.approx(3 / 5)


def test_tracks_are_counted_and_who_confirmed_them() -> None:
    """By the first answers of the window: here every other is the cloud's."""
    records = [said(n, by="cloud" if n % 2 else "edge", track_id=n // 5) for n in range(30)]
    figures = quality_figures(records, FPS, WINDOW, reference())
    assert figures["tracks"] == 2
    assert figures["confirmed_share"] == 0.5
    assert "idf1" not in figures
    assert "tracks" not in quality_figures([said(n) for n in range(30)], FPS, WINDOW, reference())


def test_labelled_objects_judge_the_numbers_of_tracks() -> None:
    """A track a pass is right, one number for both is a mistake: the source begins again with new objects."""
    ids = tuple(np.array([7]) for _ in range(PASS))
    objects = Truth(tuple(truth_of(n) for n in range(PASS)), ids)
    right = [said(n, track_id=n // PASS) for n in range(30)]
    figures = quality_figures(right, FPS, WINDOW, reference(objects=objects))
    assert (figures["idf1"], figures["switches"]) == (1, 0)
    swapping = [said(n, track_id=n % 2) for n in range(30)]
    assert quality_figures(swapping, FPS, WINDOW, reference(objects=objects))["switches"] == 8
    one = [said(n, track_id=1) for n in range(30)]
    assert quality_figures(one, FPS, WINDOW, reference(objects=objects))["idf1"] == 0.5


def test_a_sequence_of_motchallenge_brings_its_objects(tmp_path: Path) -> None:
    """Its pictures are played, and its gt.txt is read."""
    model = bright_detector(tmp_path / "models", "bright", labels=["person"])
    write_pictures(tmp_path / "seq" / "img1", 3)
    (tmp_path / "seq" / "gt").mkdir()
    (tmp_path / "seq" / "gt" / "gt.txt").write_text(
        "1,4,0,0,20,20,1,1\n3,4,0,0,20,20,1,1\n", encoding="utf-8"
    )
    opened = open_reference(str(tmp_path / "seq"), model, Silent())
    assert opened.camera_source == str(tmp_path / "seq" / "img1")
    later = opened.objects_at([3, 4, 5])
    assert later is not None
    assert later.ids is not None
    assert [of_frame.tolist() for of_frame in later.ids] == [[9], [], [9]]


def test_quality_is_of_all_edges_with_the_spread() -> None:
    """Not of the first alone: the mean, and the best less the worst; what one edge lacks is of the others."""
    four = [{"agreement": a, "streaming": 0.5} for a in (0.756, 0.766, 0.653, 0.746)]
    figures = over_edges([*four, {"streaming": 0.0}])
    assert figures["agreement"] == pytest.approx(0.73025)
    assert figures["agreement_spread"] == pytest.approx(0.113)
    assert figures["streaming"] == pytest.approx(0.4)
    assert over_edges(four[:1]) == four[0]
