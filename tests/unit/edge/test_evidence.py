"""Evidence: the folder keeps its bounds, and pictures are chosen, drawn and lost as is said."""

import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spillover.common.errors import ConfigError, InUseError, InvalidInputError
from spillover.common.types import Action, AuditMark, Decision, Detections, Frame, Prediction, Result
from spillover.edge.config import Occasion
from spillover.edge.evidence import snapshots as module
from spillover.edge.evidence.snapshots import HELD_BYTES, QUEUED_FRAMES, Agrees, Snapshots
from spillover.edge.evidence.store import RESERVE_SHARE, Store
from spillover.edge.evidence.writer import CHANGED, NOT_ENCODED, QUEUE_FULL, STOPPED, WRITE_FAILED, Writer
from spillover.edge.results.delivery import EventKind
from tests.chaos.disk import CannotHappenHereError, Disk
from tests.support import edge_values
from tests.support.slow_disk import Gate, returns

DAY_S = 86400.0


def name_of(number: int, ending: str = ".jpg") -> str:
    """The name of a file of evidence."""
    return f"door-0123456789ab-{number}{ending}"


class Wall:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now_s = 1.7e9

    def __call__(self) -> float:
        """The time."""
        return self.now_s


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 400), st.integers(0, 60)), min_size=1, max_size=40))
def test_the_newest_files_stay_and_bytes_and_age_are_bounded(
    tmp_path_factory: pytest.TempPathFactory, files: list[tuple[int, int]]
) -> None:
    """Files of any size at any time: never more bytes than the bound, and no older file without the newer."""
    folder, wall, bound = tmp_path_factory.mktemp("evidence"), Wall(), 1000
    store = Store(folder / "evidence", bound, 100.0, wall)
    for number, (size, later_s) in enumerate(files):
        wall.now_s += later_s
        store.prune()
        store.write(name_of(number), bytes(size))
        there = {name: size for name, size in _sizes(folder).items() if size or name.endswith(".jpg")}
        assert sum(there.values()) <= bound
        assert store.state().total_bytes == sum(there.values())
        assert store.state().files == len(there)
        first = number + 1 - len(there)
        assert set(there) == {name_of(one) for one in range(first, number + 1)}
        ages = [sum(after for _, after in files[one + 1 : number + 1]) for one in range(first, number + 1)]
        assert all(age <= 100 for age in ages)
    store.close()


def _sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.iterdir() if path.name != ".evidence.lock"}


def test_after_a_restart_what_is_there_counts_and_what_is_not_ours_stays(tmp_path: Path) -> None:
    """Halves go; strangers' files stay and count for nothing; the oldest of an earlier run goes first."""
    wall = Wall()
    store = Store(tmp_path / "evidence", 1000, DAY_S, wall)
    for number in range(3):
        store.write(name_of(number), bytes(300))
        os.utime(tmp_path / name_of(number), (wall.now_s + number, wall.now_s + number))
    store.close()
    half = tmp_path / f".{name_of(7)}.0123456789ab"
    half.write_bytes(bytes(10))
    strangers = [tmp_path / name for name in ("holiday.jpg", "door-1.jpg", "notes.txt")]
    for path in strangers:
        path.write_bytes(bytes(5000))
    again = Store(tmp_path / "evidence", 1000, DAY_S, wall)
    assert again.state().files == 3
    assert name_of(1) in again
    assert not half.exists()
    again.write(name_of(3), bytes(300))
    assert set(_sizes(tmp_path)) == {name_of(1), name_of(2), name_of(3), *(one.name for one in strangers)}
    with pytest.raises(InUseError, match=r"evidence\.folder"):
        Store(tmp_path / "evidence", 1000, DAY_S)


def test_a_folder_that_can_never_be_is_named_and_one_that_is_away_is_waited_for(tmp_path: Path) -> None:
    """A file in the folder's place is the configuration's fault; a disk that is not mounted comes later."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"evidence\.folder"):
        Store(tmp_path / "file" / "evidence", 1000, DAY_S)
    store = Store(tmp_path / "away" / "evidence", 1000, DAY_S)
    with pytest.raises(FileNotFoundError):
        store.write(name_of(0), b"x")
    store.prune()  # waits as well, and says nothing
    (tmp_path / "away").mkdir()
    store.write(name_of(0), b"x")
    assert store.state().files == 1
    assert not (tmp_path / "away" / name_of(0)).stat().st_mode & 0o007  # pictures of people


def test_a_disk_that_comes_back_as_another_is_locked_and_read_anew(tmp_path: Path) -> None:
    """What is away is not forgotten, and nobody else has what is there; bounds hold once it is back."""
    folder, away, wall = tmp_path / "disk", tmp_path / "away", Wall()
    folder.mkdir()
    store = Store(folder / "evidence", 1000, DAY_S, wall)
    store.write(name_of(0), bytes(300))
    os.utime(folder / name_of(0), (wall.now_s, wall.now_s))
    wall.now_s += 2 * DAY_S
    folder.rename(away)
    with pytest.raises(FileNotFoundError):
        store.prune()
    assert store.state().files == 1
    folder.mkdir()
    store.prune()
    assert store.state().files == 0
    with pytest.raises(InUseError):
        Store(folder / "evidence", 1000, DAY_S)
    folder.rename(tmp_path / "other")
    away.rename(folder)
    store.write(name_of(1), bytes(300))
    assert store.state().files == 2
    store.prune()
    assert set(_sizes(folder)) == {name_of(1)}
    assert store.state().deleted["keep_days"] == 1
    with pytest.raises(InUseError):
        Store(folder / "evidence", 1000, DAY_S)
    store.close()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A small disk."""
    disk = Disk(tmp_path / "disk", 4)
    try:
        yield disk
    finally:
        disk.close()


def test_on_a_small_disk_the_oldest_make_room_and_a_rest_is_left(disk: Disk) -> None:
    """A bound beyond the disk's size never fills it: results and spool have their room still."""
    if disk.why_not:
        pytest.skip(disk.why_not)
    store = Store(disk.folder / "evidence", 10**9, DAY_S)
    with disk.full(), pytest.raises(OSError, match="has no room"):
        store.write(name_of(0), bytes(100))
    for number in range(60):
        store.write(name_of(number), bytes(100_000))
    found = os.statvfs(disk.folder)
    assert found.f_bavail * found.f_frsize >= RESERVE_SHARE * found.f_blocks * found.f_frsize
    assert store.state().deleted["disk"] > 20
    with disk.full():  # by others: the newest is worth more than the oldest
        store.write(name_of(60), bytes(100_000))
    assert {name_of(59), name_of(60)} <= set(_sizes(disk.folder))
    store.close()  # an open lock would keep the disk writable
    try:
        with disk.read_only(), pytest.raises(OSError, match="Read-only"):
            store.write(name_of(61), bytes(10))
    except CannotHappenHereError as error:
        pytest.skip(str(error))
    assert set(_sizes(disk.folder)) == set(store._files)
    store.write(name_of(62), bytes(10))


class Heard:
    """Hears what becomes of pictures."""

    def __init__(self) -> None:
        self.stored: list[str] = []
        self.lost: list[str] = []

    def evidence_stored(self, kind: str, camera_id: str, frame_id: str, name: str) -> None:
        """Note a name."""
        assert (kind, camera_id) == ("snapshot", "cam")
        assert name == f"{frame_id}.jpg"
        self.stored.append(name)

    def evidence_lost(self, kind: str, reason: str) -> None:
        """Note a reason."""
        assert kind == "snapshot"
        self.lost.append(reason)


class Bench:
    """Pictures of one camera, fed by hand."""

    def __init__(self, folder: Path, *occasions: Occasion, agrees: Agrees = lambda *_: False) -> None:
        self.folder = folder
        self.heard = Heard()
        self.settings: Any = _Settings()
        self.now_s = 0.0
        self.snapshots = Snapshots(
            occasions,
            Writer(Store(folder / "evidence", 10**7, DAY_S)),
            ["person"],
            {"cam": lambda: self.settings},
            agrees,
            10.0,
            self.heard,
            lambda: self.now_s,
        )

    def look(self, number: int, action: Action = Action.KEEP, *, audit: bool = False) -> Result:
        """A frame comes."""
        decision = Decision(action, "why", audit=AuditMark(would_keep=True) if audit else None)
        frame = edge_values.frame(number, size=(96, 128))
        seen = edge_values.detections(0.9)
        result = replace(edge_values.result(frame.frame_id), prediction=seen, decision=decision)
        self.snapshots.look(edge_values.look(frame, result, self.settings))
        return result

    def work(self) -> list[str]:
        """Write all that is queued; the names of what is there."""
        self.snapshots.close()
        self.snapshots.run()
        return sorted(path.name for path in self.folder.glob("*.jpg"))


class _Settings:
    """Stands for settings that hide the left half of every frame."""

    @staticmethod
    def redact(frame: Frame, *_: Any) -> Frame:
        """Paint the left half black."""
        image = frame.image.copy()
        image[:, : image.shape[1] // 2] = 0
        return replace(frame, image=image)


def test_frames_are_kept_for_what_is_listed_and_named_at_once(tmp_path: Path) -> None:
    """Offloads, audits and events each for themselves; a frame that nothing is listed for has no name."""
    bench = Bench(tmp_path, Occasion.OFFLOADS, Occasion.EVENTS)
    kept, sent, audit, told = (
        bench.look(0),
        bench.look(1, Action.SEND_FRAME),
        bench.look(2, audit=True),
        bench.look(3),
    )
    assert bench.snapshots.of_event(EventKind.LOST, told.frame_id) == ""
    assert bench.snapshots.of_event(EventKind.ENTER, told.frame_id) == "cam-boot-3.jpg"
    assert bench.snapshots.of_event(EventKind.LOST, told.frame_id) == "cam-boot-3.jpg"
    assert [bench.snapshots.of_result(one) for one in (kept, sent, audit, told)] == [
        *("", "cam-boot-1.jpg", ""),
        "cam-boot-3.jpg",
    ]
    assert bench.work() == [
        *("cam-boot-1.boxes.jpg", "cam-boot-1.jpg", "cam-boot-3.boxes.jpg", "cam-boot-3.jpg")
    ]
    assert bench.heard.stored == ["cam-boot-1.jpg", "cam-boot-3.jpg"]
    assert bench.snapshots.of_result(sent) == "cam-boot-1.jpg"


def test_what_is_hidden_is_hidden_in_both_pictures(tmp_path: Path) -> None:
    """The half that redaction paints black is black; the other half, and the box in one of them, are not."""
    bench = Bench(tmp_path, Occasion.OFFLOADS)
    bench.look(1, Action.SEND_FRAME)
    bench.work()
    for ending in (".jpg", ".boxes.jpg"):
        image = cv2.imread(str(tmp_path / f"cam-boot-1{ending}"))
        assert image is not None
        assert image[40:, :56].max() < 16
        assert abs(int(image[40:, 72:].mean()) - 128) < 4
    plain, drawn = (
        cv2.imread(str(tmp_path / f"cam-boot-1{ending}")).astype(int) for ending in (".jpg", ".boxes.jpg")
    )
    assert np.abs(plain - drawn)[:30].max() > 64


@pytest.mark.parametrize("is_encoded", [False, True])
def test_a_disagreement_keeps_the_frame_that_was_held_for_it(tmp_path: Path, is_encoded: bool) -> None:
    """Whether the answer comes before or after the encoding; with both sides' boxes. Agreement keeps none."""
    for folder, agrees in ((tmp_path / "same", True), (tmp_path / "other", False)):
        folder.mkdir()
        bench = Bench(folder, Occasion.DISAGREEMENTS, agrees=lambda *_, same=agrees: same)
        local = bench.look(1, Action.SEND_FRAME)
        assert bench.snapshots.of_result(local) == ""  # its first result, at the deadline
        if is_encoded:
            bench.snapshots._process(bench.snapshots._queue.poll())
        bench.snapshots.answered(local.frame_id, edge_values.detections(0.9))
        name = bench.snapshots.of_result(local)
        assert name == ("" if agrees else "cam-boot-1.jpg")
        assert len(bench.work()) == (0 if agrees else 2)
        assert bench.heard.lost == []


@pytest.mark.parametrize("why", [CHANGED, NOT_ENCODED])
def test_a_frame_that_is_lost_while_its_answers_are_compared_has_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """They disagree, and nothing comes of it: the loss is counted once, and no name stays on its way."""

    def compare(_local: Prediction, _cloud: Prediction) -> bool:
        if why == CHANGED:
            bench.settings = _Settings()
        else:
            monkeypatch.setattr(module, "plain", _refuse)
        bench.snapshots._process(bench.snapshots._queue.poll())
        return False

    bench = Bench(tmp_path, Occasion.DISAGREEMENTS, agrees=compare)
    local = bench.look(1, Action.SEND_FRAME)
    bench.snapshots.answered(local.frame_id, edge_values.detections(0.9))
    assert bench.heard.lost == [why]
    assert bench.snapshots.of_result(local) == ""
    assert bench.work() == []


def _refuse(_: object) -> bytes:
    raise InvalidInputError("no picture")


def test_each_loss_has_its_reason_and_no_name_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full queue, other settings, too many held, a disk that does not take it; the pipeline never waits."""
    bench = Bench(tmp_path, Occasion.OFFLOADS)
    results = [bench.look(number, Action.SEND_FRAME) for number in range(QUEUED_FRAMES + 3)]
    assert bench.heard.lost == [QUEUE_FULL] * 3
    assert [bool(bench.snapshots.of_result(one)) for one in results] == [True] * QUEUED_FRAMES + [False] * 3
    bench.settings = _Settings()
    assert bench.work() == []
    assert bench.heard.lost[3:] == [CHANGED] * QUEUED_FRAMES
    assert not any(bench.snapshots.of_result(one) for one in results)

    bench = Bench(tmp_path / "away", Occasion.OFFLOADS)
    local = bench.look(1, Action.SEND_FRAME)
    bench.work()
    assert bench.heard.lost == [WRITE_FAILED]
    assert bench.snapshots.of_result(local) == ""

    (tmp_path / "held").mkdir()
    bench = Bench(tmp_path / "held", Occasion.DISAGREEMENTS)
    monkeypatch.setattr(module, "plain", lambda _: bytes(HELD_BYTES // 2))
    for number in range(3):
        bench.look(number, Action.SEND_FRAME)
        bench.snapshots._process(bench.snapshots._queue.poll())
    bench.now_s = 11.0  # of the two that are left no answer comes any more, and nobody is told
    bench.look(4, Action.SEND_FRAME)
    bench.work()
    assert bench.heard.lost == [module.HELD_OUT]


def test_a_disk_that_hangs_holds_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks and names return while a write hangs; what waits then is lost to the stop, and counted."""
    bench = Bench(tmp_path, Occasion.OFFLOADS)
    gate = Gate(os.fsync)
    monkeypatch.setattr(os, "fsync", gate)
    bench.look(0, Action.SEND_FRAME)
    thread = threading.Thread(target=bench.snapshots.run, daemon=True)
    thread.start()
    gate.wait_until_reached()
    assert returns(lambda: bench.snapshots.of_result(bench.look(1, Action.SEND_FRAME)))
    bench.snapshots.close()
    bench.snapshots.give_up()
    assert bench.heard.lost == [STOPPED]
    gate.open()
    thread.join(30)
    assert bench.heard.stored == ["cam-boot-0.jpg"]


def test_boxes_of_a_classifier_are_words(tmp_path: Path) -> None:
    """A prediction without boxes is a caption."""
    bench = Bench(tmp_path, Occasion.OFFLOADS)
    local = bench.look(0, Action.SEND_FRAME)
    assert isinstance(local.prediction, Detections)
    said = replace(local, prediction=edge_values.classification(0.7, 0.3))
    image = module.plain(np.zeros((96, 128, 3), np.uint8))
    drawn = cv2.imdecode(
        np.frombuffer(module.with_boxes(image, said, None, ["person"]), np.uint8), cv2.IMREAD_COLOR
    )
    assert drawn is not None
    assert drawn.max() > 128
