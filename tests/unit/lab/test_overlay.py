"""Overlay pictures: the right frame gets the right boxes, in the colour of who answered."""

from dataclasses import replace
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from spillover.common.errors import SourceError
from spillover.common.tasks.drawing import GREEN, ORANGE, Colour
from spillover.common.types import NO_BOXES, AnsweredBy, Detections, Result, SeenBy, Timings, TrackMark
from spillover.edge.camera.open import open_source
from spillover.edge.sinks.record import Record, record_encoder
from spillover.lab.pairs.video.results import streaming_agreement
from spillover.lab.runs.demo.strip import spread, write_strip
from spillover.lab.runs.overlay.cli import overlay
from spillover.lab.runs.overlay.overlay import COLOURS, Choice, chosen, draw
from tests.support.edge_values import result

BOX = (20, 40, 80, 100)
ENCODE = record_encoder(["person"])


def found(number: int, by: AnsweredBy = AnsweredBy.EDGE, revision: int = 0, source: str = "") -> Result:
    """One box, in frame `number`."""
    boxes = Detections(np.array([BOX], np.float32), np.array([0.9], np.float32), np.zeros(1, np.int32))
    values = {
        "sequence": number,
        "answered_by": by,
        "revision": revision,
        "source": source,
        "prediction": boxes,
    }
    first = result()
    return Result(**{name: getattr(first, name) for name in first.__slots__} | values)


def record(*arguments: object, **keys: object) -> Record:
    """As it stands in a file."""
    return msgspec.json.decode(ENCODE(found(*arguments, **keys)), type=Record)  # type: ignore[arg-type]


@pytest.mark.parametrize("by", list(AnsweredBy))
def test_boxes_are_drawn_where_they_are_in_the_colour_of_who_answered(by: AnsweredBy) -> None:
    """The box's edge is coloured, its middle and the rest of the frame stay, and so does the frame given."""
    image = np.full((160, 200, 3), 90, np.uint8)
    drawn = draw(image, record(3, by))
    left, top, right, bottom = BOX
    for x, y in ((left, 70), (right, 70), (50, bottom)):
        assert np.abs(drawn[y, x].astype(int) - COLOURS[by.value]).max() < 30
    assert (drawn[70, 50] == 90).all()
    assert (drawn[150, 190] == 90).all()
    assert (image == 90).all()
    assert top < bottom


def test_the_last_answer_of_a_frame_counts() -> None:
    """A revision takes the place of the first result; each n-th frame and one ending can be asked for."""
    records = [record(0), record(1, AnsweredBy.EDGE_DEGRADED), record(1, AnsweredBy.CLOUD, 1), record(2)]
    assert [r.answered_by for r in chosen(records, Choice()).values()] == ["edge", "cloud", "edge"]
    assert list(chosen(records, Choice(every=2))) == [0, 2]
    assert list(chosen(records, Choice(answered_by="cloud"))) == [1]
    assert list(chosen(records, Choice(limit=1))) == [0]


@pytest.mark.parametrize("last", [(2, ""), (1, "#2")])
def test_frames_of_a_video_are_found_by_number(tmp_path: Path, last: tuple[int, str]) -> None:
    """Each picture shows the frame that its result is of, also where pictures before it were passed over."""
    video = cv2.VideoWriter(str(tmp_path / "v.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (200, 160))
    for level in (20, 120, 220):
        video.write(np.full((160, 200, 3), level, np.uint8))
    video.release()
    number, source = last
    lines = ENCODE(found(0)), ENCODE(found(number, source=source))
    (tmp_path / "r.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    arguments = ["--results", tmp_path / "r.jsonl", "--source", tmp_path / "v.avi", "--out", tmp_path / "out"]
    done = CliRunner().invoke(overlay, [str(argument) for argument in arguments], catch_exceptions=False)
    assert done.exit_code == 0
    pictures = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in pictures] == ["000000-edge.jpg", f"{number:06}-edge.jpg"]
    levels = [int(cv2.imread(str(path))[150, 190].mean()) for path in pictures]  # type: ignore[index]
    assert levels == pytest.approx([20, 220], abs=6)


def test_results_of_another_source_are_an_error(tmp_path: Path) -> None:
    """Rather than an empty folder."""
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "r.jsonl").write_bytes(msgspec.json.encode(record(7, source="b.png")) + b"\n")
    arguments = ["--results", tmp_path / "r.jsonl", "--source", tmp_path / "a.png", "--out", tmp_path / "out"]
    done = CliRunner().invoke(overlay, [str(argument) for argument in arguments])
    assert done.exit_code != 0
    assert "none of the frames" in str(done.exception)


def tracked(number: int, *marks: TrackMark) -> Record:
    """A frame with the one box as often as there are marks."""
    count = len(marks)
    boxes = Detections(
        np.array([BOX] * count, np.float32).reshape(-1, 4),
        np.full(count, 0.9, np.float32),
        np.zeros(count, np.int32),
    )
    given = replace(found(number), prediction=boxes, tracks=marks)
    return msgspec.json.decode(ENCODE(given), type=Record)


@pytest.mark.parametrize(("by", "colour"), [(SeenBy.EDGE, ORANGE), (SeenBy.CLOUD, GREEN)])
def test_a_tracked_box_has_the_colour_of_who_confirmed_it_and_is_dashed_where_it_was_carried(
    by: SeenBy, colour: Colour
) -> None:
    """A box that is carried shows the picture between its dashes; one that was just seen does not."""
    image = np.full((160, 200, 3), 90, np.uint8)
    left, top, _, bottom = BOX
    shares = []
    for age_s in (0.0, 0.4):
        side = draw(image, tracked(3, TrackMark(7, by, age_s)))[top + 30 : bottom - 2, left]
        shares.append(float((np.abs(side.astype(int) - colour).max(axis=1) < 30).mean()))
    assert shares[0] == 1
    assert 0.2 < shares[1] < 0.8


def test_no_box_is_drawn_where_nothing_is_tracked_now() -> None:
    """A tracked frame may be empty."""
    image = np.full((160, 200, 3), 90, np.uint8)
    assert (draw(image, tracked(3))[60:] == 90).all()


def test_the_strip_shows_frames_that_every_mode_has_answered(tmp_path: Path) -> None:
    """Spread over the run, a row a mode."""
    first = {
        "edge_only": {n: record(n) for n in range(30)},
        "hybrid": {n: record(n) for n in range(0, 30, 2)},
    }
    assert spread(first) == [4, 14, 24]
    with pytest.raises(SourceError, match="every mode"):
        spread({"a": {1: record(1)}, "b": {2: record(2)}})
    video = cv2.VideoWriter(str(tmp_path / "v.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (240, 160))
    for _ in range(30):
        video.write(np.full((160, 240, 3), 90, np.uint8))
    video.release()
    runs = {mode: list(records.values()) for mode, records in first.items()}
    write_strip(tmp_path / "strip.jpg", open_source(str(tmp_path / "v.avi")), runs)
    strip = cv2.imread(str(tmp_path / "strip.jpg"))
    assert strip is not None
    assert strip.shape == (2 * 320, 3 * 480, 3)


def test_what_is_newest_when_a_frame_is_taken_counts_as_streaming() -> None:
    """Before the first result there is nothing; then each frame is judged by the one before it."""
    records = []
    for number in range(4):
        at_s = 100.0 + number
        one = replace(found(number), captured_unix_s=at_s, timings=Timings(total_s=0.5))
        records.append(msgspec.json.decode(ENCODE(one), type=Record))
    truth = {number: found(number).prediction for number in range(4)}
    assert streaming_agreement(records, truth) == pytest.approx(3 / 4)
    assert streaming_agreement(records, {}) is None
    assert streaming_agreement(records, truth | {2: NO_BOXES}) == pytest.approx(2 / 4)
