"""Tracking in a running daemon: real gRPC, a detector and a cloud that see what a test has them see."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import grpc
import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from spillover.common.images import decode_jpeg
from spillover.common.tasks.detection import DETECTION, matched_share
from spillover.common.types import Detections
from spillover.edge.daemon import Daemon
from spillover.edge.sinks.record import Record
from spillover.lab.pairs.replay.cli import replay
from spillover.lab.pairs.replay.tracks import RemadeTracks, remake_tracks
from spillover.lab.records import prediction_of, read_records
from tests.support.moving import Walker, World
from tests.support.scripted_cloud import PATIENCE_S, Held, refuses, scripted_cloud
from tests.support.tracked import ScriptedDetector, Seen, Street, nothing, says, until

TWO = World((Walker(40, 60, dx=1), Walker(220, 120, dx=-1, class_id=2)))
ELSEWHERE = World((Walker(150, 20, dy=1, class_id=1),), seed=5)
RIGHT = 0.99


@pytest.fixture
def street(tmp_path: Path) -> Street:
    """A street in a folder of its own."""
    return Street(tmp_path)


def agrees(record: Record, truth: Detections) -> bool:
    """Whether a result shows every object where it is, and nothing else."""
    return matched_share(DETECTION.own(prediction_of(record)), truth, 0.0) >= RIGHT


def test_without_a_cloud_objects_are_numbered_and_nothing_else_changes(street: Street) -> None:
    """Mode `edge_only`: the same boxes as without tracking, each object with one number all along."""
    street.film(TWO, 20)
    tracked = street.run(TWO.boxes, mode="edge_only")
    street.log.unlink()
    plain = street.run(TWO.boxes, mode="edge_only", tracking=None)
    for one, other in zip(tracked.first, plain.first, strict=True):
        assert one.boxes is not None
        assert other.boxes is not None
        assert [box.xyxy for box in one.boxes] == [box.xyxy for box in other.boxes]
        assert [box.confidence for box in one.boxes] == [box.confidence for box in other.boxes]
        assert {(box.confirmed_by, box.age_s) for box in one.boxes} == {("edge", 0.0)}
        assert {box.track_id for box in other.boxes} == {None}
    assert {tuple(sorted(tracked.numbers(frame))) for frame in range(20)} == {(1, 2)}  # type: ignore[type-var]
    assert tracked.status.cameras[0].tracking is not None
    assert plain.status.cameras[0].tracking is None
    assert (tracked.first[-1].tracking is not None, plain.first[-1].tracking) == (True, None)


def test_an_answer_in_time_is_shown_on_the_frames_that_follow(street: Street) -> None:
    """The edge sees nothing; the cloud's boxes of frame 0 are where the objects are, with their numbers."""
    street.film(TWO, 20)

    def meanwhile(daemon: Daemon, number: int) -> None:
        if number == 1:
            until(lambda: daemon.metrics.summary().get("frames[cloud]", 0) == 1)

    with scripted_cloud(says(TWO.boxes)) as cloud:
        seen = street.run(sent=[0], meanwhile=meanwhile, uplink={"address": cloud.address})
    first, *rest = seen.first
    assert (first.answered_by, first.carried_from) == ("cloud", "")
    assert sorted(seen.numbers(0)) == [1, 2]  # type: ignore[type-var]
    for number, record in enumerate(rest, 1):
        assert agrees(record, TWO.boxes(number)), number
        assert (record.answered_by, record.carried_from) == ("edge", first.frame_id)
        assert record.boxes is not None
        assert {box.confirmed_by for box in record.boxes} == {"cloud"}
        assert seen.numbers(number) == seen.numbers(0)
        assert all(box.age_s is not None and box.age_s > 0 for box in record.boxes)
    assert seen.counts.get("cuts", 0) == 0


def late(street: Street, until_frame: int, **sections: object) -> Seen:
    """A run whose frame 0 is answered after its deadline, when frame `until_frame` is looked at."""
    behaviour = Held(says(TWO.boxes))
    with scripted_cloud(behaviour) as cloud:

        def meanwhile(daemon: Daemon, number: int) -> None:
            if number == 1:
                until(lambda: daemon.metrics.summary().get("frames[edge_degraded]", 0) == 1)
            if number == until_frame:
                behaviour.release.set()
                until(lambda: daemon.metrics.summary().get("revisions", 0) == 1)

        uplink = {"address": cloud.address, "late_answer_window_s": PATIENCE_S}
        return street.run(sent=[0], meanwhile=meanwhile, uplink=uplink, deadline_s=0.2, **sections)


def test_a_late_answer_is_brought_to_the_present(street: Street) -> None:
    """It comes at frame 10: its revision has the tracks of its own frame, and frame 10 shows them moved."""
    street.film(TWO, 20)
    seen = late(street, 10)
    assert seen.first[0].answered_by == "edge_degraded"
    (revision,) = seen.late
    assert agrees(revision, TWO.boxes(0))
    assert revision.boxes is not None
    assert {(box.confirmed_by, box.age_s) for box in revision.boxes} == {("cloud", 0.0)}
    assert revision.tracking is None
    assert all(record.boxes == [] for record in seen.first[:10])
    numbers = [box.track_id for box in revision.boxes]
    for number in range(10, 20):
        assert agrees(seen.first[number], TWO.boxes(number)), number
        assert seen.numbers(number) == numbers
        assert seen.first[number].carried_from == revision.frame_id


def test_an_answer_from_before_a_cut_shows_nothing_after_it(street: Street) -> None:
    """Its revision is right for its own frame; of the new scene it says nothing."""
    street.film(TWO, 6)
    street.film(ELSEWHERE, 8)
    seen = late(street, 8)
    assert [record.boxes for record in seen.first] == [[]] * 14
    assert len(seen.late) == 1
    assert agrees(seen.late[0], TWO.boxes(0))
    assert seen.counts["cuts"] == 1
    status = seen.status.cameras[0].tracking
    assert status is not None
    assert (status.shown, status.cuts) == (0, 1)


def test_tracks_end_with_a_cut(street: Street) -> None:
    """What was shown before it is gone on the very next frame."""
    street.film(TWO, 6)
    street.film(ELSEWHERE, 4)

    def sees(number: int) -> Detections:
        return TWO.boxes(number) if number < 6 else ELSEWHERE.boxes(number - 6)

    seen = street.run(sees, mode="edge_only")
    assert sorted(seen.numbers(5)) == [1, 2]  # type: ignore[type-var]
    assert seen.numbers(6) == seen.numbers(9) == [3]


def test_a_clip_that_changes_size_begins_a_new_scene(street: Street) -> None:
    """Boxes in pixels of the old size are shown on none of the new one."""
    street.film(TWO, 5)
    street.film(TWO, 5, (160, 120))
    street.film(TWO, 5)
    seen = street.run(mode="edge_only", sees=lambda number: TWO.boxes(0) if number < 5 else nothing(number))
    assert [len(record.boxes or ()) for record in seen.first] == [2] * 5 + [0] * 10
    assert seen.counts["cuts"] == 2


def test_what_the_cloud_does_not_answer_leaves_the_edges_own(street: Street) -> None:
    """The server refuses: the edge's boxes with their numbers, until an answer comes."""
    street.film(TWO, 20)
    with scripted_cloud(refuses(grpc.StatusCode.INTERNAL)) as cloud:

        def meanwhile(daemon: Daemon, number: int) -> None:
            counts = daemon.metrics.summary
            if number == 5:
                until(lambda: counts().get("frames[edge_degraded]", 0) == 1)
                cloud.behaviour = says(TWO.boxes)
            if number == 11:
                until(lambda: counts().get("frames[cloud]", 0) == 1)

        seen = street.run(
            lambda number: TWO.boxes(number, 0.8, 0),
            sent=[0, 10],
            meanwhile=meanwhile,
            uplink={"address": cloud.address},
        )
    assert seen.first[0].answered_by == "edge_degraded"
    for number in range(1, 10):
        assert seen.numbers(number) == [1]
        assert {box.confirmed_by for box in seen.first[number].boxes or ()} == {"edge"}
    assert seen.first[10].answered_by == "cloud"
    for number in range(11, 20):
        assert agrees(seen.first[number], TWO.boxes(number)), number


def test_mode_cloud_only_is_tracked_too(street: Street) -> None:
    """Every frame is sent: what comes back keeps one number for each object."""
    street.film(TWO, 12)
    with scripted_cloud(says(TWO.boxes)) as cloud:
        seen = street.run(mode="cloud_only", uplink={"address": cloud.address, "max_in_flight": 1})
    assert {record.answered_by for record in seen.first} == {"cloud"}
    numbers = {tuple(sorted(seen.numbers(frame))) for frame in range(12)}  # type: ignore[type-var]
    assert numbers == {(1, 2)}


def crowd(number: int) -> Detections:
    """Five hundred boxes, then none, then some whose sides are not numbers, turned around, or without end."""
    grid = np.arange(500, dtype=np.float32)
    left, top = grid % 25 * 12, grid // 25 * 11
    xyxy = np.stack([left, top, left + 9, top + 9], axis=1).astype(np.float32)
    boxes = Detections(xyxy, np.linspace(0.9, 0.6, 500, dtype=np.float32), np.zeros(500, np.int32))
    if number % 3 == 1:
        return boxes[:0]
    if number % 3 == 2:
        odd = xyxy[:5].copy()
        odd[0, 0], odd[1, 3], odd[2, 2] = np.nan, np.inf, -5.0
        confidence = np.array([0.9, 0.9, 0.9, np.nan, 0.9], np.float32)
        return Detections(odd, confidence, np.zeros(5, np.int32))
    return boxes


def test_a_crowd_an_empty_street_and_broken_boxes_are_counted(street: Street) -> None:
    """Every frame is answered; what is left out is counted by its reason."""
    street.film(TWO, 9)
    seen = street.run(crowd, mode="edge_only")
    assert len(seen.first) == 9
    assert [len(seen.numbers(frame)) for frame in (0, 1)] == [200, 0]
    assert seen.counts["tracking_dropped[box_unusable]"] > 0
    assert seen.counts["tracking_dropped[too_many_boxes]"] == 3 * 300
    for record in seen.first:
        assert all(np.isfinite(box.xyxy).all() and np.isfinite(box.confidence) for box in record.boxes or ())


def test_a_cloud_whose_boxes_are_not_numbers_is_not_believed(street: Street) -> None:
    """The call counts as a bad reply, and the edge's own boxes stay."""
    street.film(TWO, 6)

    def broken(number: int) -> Detections:
        boxes = TWO.boxes(number)
        boxes.xyxy[0, 0] = np.nan
        return boxes

    with scripted_cloud(says(broken)) as cloud:
        seen = street.run(TWO.boxes, sent=[0], uplink={"address": cloud.address})
    assert seen.counts["uplink_calls[bad_reply]"] == 1
    assert all(agrees(record, TWO.boxes(number)) for number, record in enumerate(seen.first))


def test_a_person_stays_hidden_on_a_frame_on_which_the_edge_misses_it(street: Street) -> None:
    """Frame 5 is sent and the edge sees no one: the person is black in it all the same.

    The cloud was not shown the person: what it says confirms and denies nothing of it.
    """
    street.film(TWO, 10)

    def sees(number: int) -> Detections:
        return TWO.boxes(number)[:0] if number in {5, 6} else TWO.boxes(number, 0.8, 0)

    def meanwhile(daemon: Daemon, number: int) -> None:
        if number == 6:
            until(lambda: daemon.metrics.summary().get("frames[cloud]", 0) == 1)

    with scripted_cloud(says(lambda number: TWO.boxes(number, 0.9, 1))) as cloud:
        seen = street.run(
            sees,
            sent=[5],
            meanwhile=meanwhile,
            uplink={"address": cloud.address},
            redaction={"classes": [0], "style": "fill", "margin": 0.0},
        )
    picture = decode_jpeg(cloud.requests[0].image.data, 1_000_000)
    left, top, right, bottom = (round(side) for side in TWO.walkers[0].xyxy(5))
    assert picture[top + 3 : bottom - 3, left + 3 : right - 3].max() < 60
    assert seen.first[5].answered_by == "cloud"
    assert agrees(seen.first[5], TWO.boxes(5, 0.9, 1))
    for number in range(7, 10):
        confirmed = {(box.class_id, box.confirmed_by) for box in seen.first[number].boxes or ()}
        assert confirmed == {(0, "edge"), (2, "cloud")}, number


def test_answers_that_come_too_late_are_counted(street: Street) -> None:
    """More frames were sent since than are remembered: the revision has no tracks, and that is counted."""
    street.film(TWO, 50)
    behaviour = Held(says(TWO.boxes))
    prompt = says(TWO.boxes)

    with scripted_cloud(
        lambda request, context: (behaviour if request.sequence == 0 else prompt)(request, context)
    ) as cloud:

        def meanwhile(daemon: Daemon, number: int) -> None:
            counts = daemon.metrics.summary
            if number == 45:
                behaviour.release.set()
                until(lambda: counts().get("revisions", 0) + counts().get("frames[cloud]", 0) >= 45)

        seen = street.run(
            TWO.boxes,
            sent=range(45),
            meanwhile=meanwhile,
            uplink={"address": cloud.address, "max_in_flight": 4},
            deadline_s=1.0,
        )
    assert seen.counts["tracking_dropped[answer_too_old]"] == 1
    (revision,) = [
        one for one in read_records(street.log) if one.sequence == 0 and one.answered_by == "cloud"
    ]
    assert [box.track_id for box in revision.boxes or ()] == [None, None]


def busy(street: Street) -> Seen:
    """A run with everything: a late answer, prompt ones, a cut, a crowd, and what the edge sees itself."""
    street.film(TWO, 20)
    street.film(ELSEWHERE, 10)
    slow, prompt = Held(says(TWO.boxes)), says(TWO.boxes)

    def sees(number: int) -> Detections:
        if number < 20:
            return crowd(number) if number in {6, 7, 8} else TWO.boxes(number + 0.4, 0.7, 0)
        return ELSEWHERE.boxes(number - 20, 0.7)

    def meanwhile(daemon: Daemon, number: int) -> None:
        counts = daemon.metrics.summary
        if number in {1, 3}:
            until(lambda: counts().get("frames[cloud]", 0) == {1: 1, 3: 2}[number])
        if number == 5:
            until(lambda: counts().get("frames[edge_degraded]", 0) == 1)
        if number == 16:
            slow.release.set()
            until(lambda: counts().get("revisions", 0) == 1)

    with scripted_cloud(
        lambda request, context: (slow if request.sequence == 4 else prompt)(request, context)
    ) as cloud:
        return street.run(
            sees,
            sent=[0, 2, 4],
            meanwhile=meanwhile,
            uplink={"address": cloud.address},
            deadline_s=1.0,
            redaction={"classes": [0]},
        )


def test_replay_makes_the_tracks_of_a_log_again(street: Street) -> None:
    """Every bit of them, without pixels; what was changed, is missing or was left out is named."""
    first = busy(street).first
    assert remake_tracks(first) == RemadeTracks(30, ())
    said = CliRunner().invoke(replay, ["--log", str(street.log), "--link", "constant"]).output
    assert "tracks made again from their inputs: 30 of 30 frames the same\n" in said

    step = first[15].tracking
    assert step is not None
    moved = replace(step.inputs, motions=tuple(one._replace(dx=one.dx + 0.01) for one in step.inputs.motions))
    changed = msgspec.structs.replace(first[15], tracking=replace(step, inputs=moved))
    found = remake_tracks([*first[:15], changed, *first[16:]])
    assert found.different[0] == first[15].frame_id
    assert first[14].frame_id not in found.different

    gap = remake_tracks([*first[:3], *first[4:]])
    assert (gap.frames, gap.different, len(gap.broken)) == (29, (), 26)
    assert f"26 frames cannot be made again, from {first[4].frame_id} on" in " ".join(gap.lines())

    short = remake_tracks([msgspec.structs.replace(one, tracking=None) for one in first])
    assert (short.frames, short.short) == (0, sum(bool(one.boxes) for one in first))


def test_numbers_are_given_once_though_tracking_is_switched_off_and_on(street: Street) -> None:
    """A reload follows the key from one frame to the next; what it changes in between is in the log."""
    street.film(TWO, 30)
    base = street.config(mode="edge_only")
    wanted = [msgspec.structs.replace(base, tracking=None), base]
    wanted.append(
        msgspec.structs.replace(base, model=msgspec.structs.replace(base.model, report_threshold=0.85))
    )
    asked = iter(wanted)

    def sees(number: int) -> Detections:
        boxes = TWO.boxes(number)
        return boxes if number < 8 else replace(boxes, class_id=boxes.class_id + 5)

    detector = ScriptedDetector(sees, frozenset())
    daemon = street.daemon(detector, base, read=lambda: nullcontext(next(asked)))

    def meanwhile(number: int) -> None:
        if (at := {5: 0, 10: 1, 20: 2}.get(number)) is not None:
            daemon.reload()
            until(lambda: daemon._reloads.config == wanted[at])

    detector.meanwhile = meanwhile
    daemon.run()
    seen = Seen(street, daemon)
    numbers = [sorted(number or 0 for number in seen.numbers(frame)) for frame in range(30)]
    off = next(at for at, one in enumerate(numbers) if one == [0, 0])
    on = next(at for at in range(off, 30) if numbers[at] != [0, 0])
    assert (numbers[0], off in {5, 6}, on in {10, 11}, numbers[on]) == ([1, 2], True, True, [3, 4])
    assert [] in numbers[20:]  # nothing reaches the new threshold
    assert remake_tracks(seen.first).different == ()
