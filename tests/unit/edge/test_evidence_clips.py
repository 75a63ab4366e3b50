"""Clips: what is before and after an event, without what is hidden, within bounds; what fails is counted."""

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillover.common.errors import InvalidInputError
from spillover.common.images import encode_jpeg
from spillover.common.video.mp4 import clip_of
from spillover.edge.config import ClipConfig
from spillover.edge.evidence import child, clips
from spillover.edge.evidence.clips import ENCODERS, WAITING_CLIPS, Clips
from spillover.edge.evidence.ring import Reader, Ring
from spillover.edge.evidence.store import Store
from spillover.edge.evidence.writer import CHANGED, QUEUE_FULL, STOPPED, Writer
from spillover.edge.results.delivery import EventKind
from tests.support import edge_values
from tests.support.tracked import until

av = pytest.importorskip("av", reason="PyAV (extra `video`) is not installed")

SETTINGS: Any = object()
LIMIT_S = 60.0


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 50)), max_size=60),
    st.integers(20, 300),
    st.integers(0, 40),
)
def test_a_ring_keeps_its_seconds_within_its_bytes(
    pictures: list[tuple[int, int]], most: int, reads_from_s: int
) -> None:
    """Never more bytes; the newest stay; a reader gets all from its time on in order, but for those lost."""
    lost: list[None] = []
    ring, reader, at_s, added = Ring(5.0, most, lambda: lost.append(None)), Reader(float(reads_from_s)), 0, []
    ring.join(reader)
    for later_s, size in pictures:
        at_s += later_s
        ring.add(at_s, SETTINGS, bytes(size))
        added.append(at_s)
        assert ring.total_bytes <= most or ring.total_bytes == 0
    ring.close()
    got = []
    while (picture := ring.read(reader, 0.0)) is not None:
        got.append(picture.at_s)
    wanted = [one for one in added if one >= reads_from_s]
    assert got == wanted[len(wanted) - len(got) :]
    assert len(wanted) - len(got) <= len(lost)


def test_pictures_of_other_settings_are_gone() -> None:
    """None of them reaches a reader."""
    ring, other = Ring(5.0, 1000, lambda: None), object()
    ring.add(0.0, SETTINGS, b"1")
    ring.add(1.0, other, b"2")  # type: ignore[arg-type]
    assert ring.total_bytes == 1
    picture = ring.read(Reader(0.0), 0.0)
    assert picture is not None
    assert picture.jpeg == b"2"


class _Settings:
    """Stands for settings that hide the left half of every frame."""

    @staticmethod
    def redact(frame: Any, *_: Any) -> Any:
        """Paint the left half black."""
        image = frame.image.copy()
        image[:, : image.shape[1] // 2] = 0
        return replace(frame, image=image)


class Bench:
    """Clips of one camera that gives 10 frames a second, on a clock of the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now_s = 100.0
        self.settings: Any = _Settings()
        self.stored: list[str] = []
        self.lost: list[tuple[str, str]] = []
        self.number = 0
        self.clips = Clips(
            ClipConfig(before_s=2, after_s=3),
            Writer(Store(folder / "evidence", 10**7, 1e6)),
            {"cam": lambda: self.settings},
            self,
            lambda: self.now_s,
        )

    def evidence_stored(self, kind: str, camera_id: str, frame_id: str, name: str) -> None:
        """Note a clip."""
        assert (kind, camera_id, name) == ("clip", "cam", f"{frame_id}.mp4")
        self.stored.append(name)

    def evidence_lost(self, kind: str, reason: str) -> None:
        """Note a loss."""
        self.lost.append((kind, reason))

    def film(self, frames: int, *events: int) -> list[str]:
        """So many more frames; names of the clips of events in some of them, counted from 0."""
        names = []
        for index in range(frames):
            self.now_s = 100 + self.number / 10
            frame = edge_values.frame(self.number, self.now_s, (97, 129))
            frame.image[:] = self.number % 256
            result = edge_values.result(frame.frame_id)
            self.clips.look(edge_values.look(frame, result, self.settings))
            if index in events:
                names.append(self.clips.of_event(EventKind.ENTER, frame.frame_id))
            self.number += 1
            assert not self.runs or self.clips._frames.wait_for_room(LIMIT_S)
        return names

    runs = False

    @contextmanager
    def running(self) -> Iterator[list[threading.Thread]]:
        """Have the threads run; all that was begun has ended at the end."""
        threads = [threading.Thread(target=self.clips.run, daemon=True)]
        threads += [threading.Thread(target=self.clips.make, daemon=True) for _ in range(ENCODERS)]
        for thread in threads:
            thread.start()
        self.runs = True
        yield threads
        self.clips.close()
        for thread in threads:
            thread.join(LIMIT_S)
            assert not thread.is_alive()


def shown(clip: bytes) -> tuple[list[float], list[tuple[float, float]], tuple[int, int]]:
    """Times of a clip's pictures, the mean of both halves of each, and its size."""
    with av.open(io.BytesIO(clip)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.pix_fmt == "yuv420p"
        frames = list(container.decode(stream))
        images = [frame.to_ndarray(format="bgr24") for frame in frames]
        halves = [(float(one[:, :60].mean()), float(one[:, 70:].mean())) for one in images]
        return [float(frame.time) for frame in frames], halves, (stream.width, stream.height)


def test_a_clip_has_what_was_before_and_after_and_not_what_is_hidden(tmp_path: Path) -> None:
    """2 s before the event and 3 s after the last one that prolonged it; an index in front; odd sides."""
    bench = Bench(tmp_path)
    with bench.running():
        names = bench.film(100, 30, 45)
        name = names[0]
        assert names == [name, name] == ["cam-boot-30.mp4"] * 2
        assert bench.clips.of_event(EventKind.ENTER, "cam-boot-45") == name  # settled later
        assert bench.clips.of_event(EventKind.LOST, "cam-boot-99") == ""
    assert bench.stored == [name]
    assert bench.lost == []
    clip = (tmp_path / name).read_bytes()
    assert clip.index(b"moov") < clip.index(b"mdat")
    times, halves, size = shown(clip)
    assert size == (128, 96)
    assert len(times) == 20 + 15 + 30 + 1
    assert times == pytest.approx([number / 10 for number in range(len(times))], abs=0.002)
    for number, (left, right) in zip(range(10, 76), halves, strict=True):
        assert left < 4
        assert abs(right - number) < 6


def test_a_clip_ends_however_many_events_follow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that could not be followed to its end begins another, with what was before it."""
    monkeypatch.setattr(clips, "LONGEST_S", 6.0)
    bench = Bench(tmp_path)
    with bench.running():
        names = bench.film(90, *range(0, 90, 5))
    clips_made = ["cam-boot-0.mp4", "cam-boot-35.mp4", "cam-boot-70.mp4"]
    assert list(dict.fromkeys(names)) == sorted(bench.stored) == clips_made
    times, _, _ = shown((tmp_path / "cam-boot-0.mp4").read_bytes())
    assert 5.0 <= times[-1] <= 6.0


def test_more_clips_than_can_be_made_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bound on clips that wait, with a reason; a process that dies costs its clip alone."""
    bench = Bench(tmp_path)
    monkeypatch.setattr(clips, "LONGEST_S", 0.0)
    names = bench.film(1, 0)
    for number in range(1, WAITING_CLIPS + 3):
        bench.settings = _Settings()  # so that the clip before it is not prolonged
        names += bench.film(1, 0)
        assert bool(names[-1]) == (number < WAITING_CLIPS)
    assert [why for kind, why in bench.lost if kind == "clip"] == [QUEUE_FULL] * 3
    bench.lost.clear()
    with bench.running():
        pass
    assert bench.stored == []
    assert {why for kind, why in bench.lost if kind == "clip"} == {CHANGED}
    bench = Bench(tmp_path / "other")
    monkeypatch.setattr(child, "_COMMAND", ("-c", "import os; os.kill(os.getpid(), 9)"))
    with bench.running():
        assert bench.film(20, 5) == ["cam-boot-5.mp4"]
    assert bench.lost == [("clip", clips.ENCODER_FAILED)]
    assert bench.clips.of_event(EventKind.LEAVE, "cam-boot-5") == ""


def test_a_reload_or_a_stop_in_the_middle_costs_the_clip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may show what is to be hidden now; and a process that hangs is killed when the time is over."""
    bench = Bench(tmp_path)
    with bench.running():
        bench.film(20, 5)
        bench.settings = _Settings()
        bench.film(20)
    assert [one for one in bench.lost if one[0] == "clip"] == [("clip", CHANGED)]
    assert list(tmp_path.glob("*.mp4")) == []
    (tmp_path / "other").mkdir()
    bench = Bench(tmp_path / "other")
    monkeypatch.setattr(child, "_COMMAND", ("-c", "import time; time.sleep(600)"))
    with bench.running():
        bench.film(20, 5)
        until(lambda: bool(bench.clips._encoders))
        bench.clips.close()
        bench.clips.give_up()
    assert bench.lost == [("clip", STOPPED)]


def test_a_change_before_a_picture_is_read_costs_the_clip(tmp_path: Path) -> None:
    """The ring is empty then: the clip is lost to the change, not to an encoder that got no picture."""
    bench = Bench(tmp_path)
    filling = threading.Thread(target=bench.clips.run, daemon=True)
    filling.start()
    bench.runs = True
    bench.film(20, 5)
    bench.settings = _Settings()
    bench.film(20)
    bench.clips.close()
    filling.join(LIMIT_S)
    bench.clips.make()
    assert [one for one in bench.lost if one[0] == "clip"] == [("clip", CHANGED)]


def test_pictures_that_are_none_make_no_clip() -> None:
    """Rubbish, and nothing at all, are errors that say so; another size is scaled to the first."""
    with pytest.raises(InvalidInputError, match="no picture"):
        clip_of([])
    with pytest.raises(InvalidInputError, match="no clip"):
        clip_of([(0.0, b"rubbish")])
    pictures = [encode_jpeg(np.full((side, side, 3), 200, np.uint8), 90).data for side in (160, 160, 80)]
    times, _, size = shown(clip_of([(0.0, pictures[0]), (0.0, pictures[1]), (1.0, pictures[2])]))
    assert size == (160, 160)
    assert times == [0.0, 0.001, 1.0]
