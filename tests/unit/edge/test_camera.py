"""Cameras: what is read, how it is numbered, paced, dropped and ended."""

import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from structlog.testing import capture_logs

from spillover.common.errors import SourceError
from spillover.common.types import Frame
from spillover.edge.camera.camera import Camera
from spillover.edge.camera.folder import FolderSource
from spillover.edge.camera.open import open_source
from spillover.edge.camera.source import Picture, UnreadablePictureError
from spillover.edge.camera.turns import FairTurns
from spillover.edge.camera.video import VideoSource
from spillover.edge.config import CameraConfig, FrameRateConfig, Pace
from spillover.edge.results.delivery import DeliveryAck
from spillover.edge.telemetry.frame_events import FrameEvents
from spillover.edge.telemetry.metrics import Metrics


class CountingSource:
    """Pictures 0, 1, 2... whose pixels are their number; after `length` of them the end."""

    fps: float | None = None

    def __init__(self, length: int, *, live: bool = False) -> None:
        self.live = live
        self._length = length
        self._next = 0
        self.rewinds = 0

    def read(self) -> Picture | None:
        """The next number."""
        if self._next >= self._length:
            return None
        self._next += 1
        return Picture(np.full((2, 2, 3), self._next - 1, np.uint8), 0.0)

    def rewind(self) -> None:
        """Begin again."""
        self.rewinds += 1
        self._next = 0

    def close(self) -> None:
        """Nothing is open."""


def camera_of(
    source: object,
    metrics: Metrics | None = None,
    *,
    read_ahead: bool = True,
    monotonic_s: Callable[[], float] = time.monotonic,
    **keys: object,
) -> Camera:
    """A camera over `source`, as fast as possible unless told otherwise."""
    config = CameraConfig(**({"source": "x", "pace": Pace.FAST, "queue_size": 2} | keys))  # type: ignore[arg-type]
    return Camera(
        source,
        config,
        "boot",
        FrameEvents(metrics or Metrics(), lambda _: DeliveryAck(0)),
        read_ahead=read_ahead,
        monotonic_s=monotonic_s,
    )  # type: ignore[arg-type]


def frames_of(camera: Camera) -> list[Frame]:
    """Run the capture on a thread and take every frame."""
    thread = threading.Thread(target=camera.run)
    thread.start()
    frames = list(taken_from(camera))
    thread.join(30)
    return frames


def taken_from(camera: Camera) -> Iterator[Frame]:
    """Every frame, as the pipeline takes them."""
    turns = FairTurns([camera])
    while (turn := turns.next()) is not None:
        yield turn[1]


def write_video(path: Path, count: int, fps: float = 25.0) -> Path:
    """A clip of `count` grey frames, each brighter than the last."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, (64, 48))
    for value in range(count):
        writer.write(np.full((48, 64, 3), 20 * value, np.uint8))
    writer.release()
    return path


@pytest.mark.parametrize("read_ahead", [True, False])
def test_fast_loses_nothing(read_ahead: bool) -> None:
    """At pace `fast` every picture becomes a frame, in order, numbered without gaps, read ahead or not."""
    frames = frames_of(camera_of(CountingSource(50), read_ahead=read_ahead))
    assert [f.sequence for f in frames] == list(range(50))
    assert [int(f.image[0, 0, 0]) for f in frames] == list(range(50))
    assert frames[7].frame_id == "camera-boot-7"


def test_realtime_keeps_the_newest() -> None:
    """A slow consumer of a live source gets the newest frames; the others are counted as dropped."""
    metrics = Metrics()
    camera = camera_of(CountingSource(10, live=True), metrics, pace=Pace.REALTIME)
    camera.run()
    assert [f.sequence for f in taken_from(camera)] == [8, 9]
    assert metrics.summary() == {"frames_captured": 10, "frames_dropped[queue full]": 8}


def test_fast_time_begins_when_a_frame_is_taken() -> None:
    """At pace `fast` waiting in the queue does not age a frame."""
    camera = camera_of(CountingSource(2))
    camera.run()
    first, second = camera.poll(), camera.poll()
    assert first is not None
    assert second is not None
    assert second.captured_monotonic_s > first.captured_monotonic_s


def test_max_frames_ends_the_run() -> None:
    """`max_frames` is the number of frames captured, then the source ends."""
    assert len(frames_of(camera_of(CountingSource(50), max_frames=3))) == 3


def test_loop_begins_again() -> None:
    """`loop` plays a source again at its end, with numbers going on."""
    source = CountingSource(3)
    frames = frames_of(camera_of(source, loop=True, max_frames=7))
    assert [int(f.image[0, 0, 0]) for f in frames] == [0, 1, 2, 0, 1, 2, 0]
    assert [f.sequence for f in frames] == list(range(7))


@pytest.mark.parametrize("read_ahead", [True, False])
def test_skipped_frames_come_when_the_source_begins_again(read_ahead: bool) -> None:
    """A file begins behind them, and numbers at 0; a live source has no beginning."""
    keys = {"loop": True, "skip_frames": 2, "max_frames": 5, "read_ahead": read_ahead}
    frames = frames_of(camera_of(CountingSource(3), **keys))  # type: ignore[arg-type]
    assert [int(f.image[0, 0, 0]) for f in frames] == [2, 0, 1, 2, 0]
    assert [f.sequence for f in frames] == list(range(5))
    assert camera_of(CountingSource(9, live=True), skip_frames=5, read_ahead=False).poll() is not None


def test_frames_of_a_file_that_begins_later_say_where_they_are() -> None:
    """Their numbers begin at 0, so a record names the picture; without that a number tells it."""
    later = frames_of(camera_of(CountingSource(4), skip_frames=2))
    assert [frame.source for frame in later] == ["#2", "#3"]
    assert {frame.source for frame in frames_of(camera_of(CountingSource(4)))} == {""}


def test_empty_loop_ends() -> None:
    """A looping source that gives nothing ends instead of spinning."""
    source = CountingSource(0)
    assert not frames_of(camera_of(source, loop=True))
    assert source.rewinds == 1


def test_stop_ends_a_blocked_capture() -> None:
    """`stop` frees a capture that waits for room; every captured frame is taken or counted as dropped."""
    metrics = Metrics()
    camera = camera_of(CountingSource(10_000), metrics)
    thread = threading.Thread(target=camera.run)
    thread.start()
    frames = taken_from(camera)
    assert next(frames) is not None
    camera.stop()
    thread.join(30)
    assert not thread.is_alive()
    assert list(frames) == []
    counted = metrics.summary()
    assert counted["frames_captured"] == 1 + counted["frames_dropped[stopped]"]


def test_folder_is_read_by_name(tmp_path: Path) -> None:
    """Images come in the order of their names, named; files that are no images are left alone."""
    for name in ("b.png", "a.jpg", "c.bmp"):
        cv2.imwrite(str(tmp_path / name), np.zeros((4, 6, 3), np.uint8))
    (tmp_path / "labels.csv").write_text("file,class_index\n")
    frames = frames_of(camera_of(open_source(str(tmp_path))))
    assert [f.source for f in frames] == ["a.jpg", "b.png", "c.bmp"]
    assert frames[0].image.shape == (4, 6, 3)


def test_damaged_image_is_skipped_and_counted(tmp_path: Path) -> None:
    """An image that cannot be decoded costs itself alone."""
    (tmp_path / "a.jpg").write_bytes(b"not a picture")
    (tmp_path / "b.jpg").write_bytes(b"")
    cv2.imwrite(str(tmp_path / "c.jpg"), np.zeros((4, 6, 3), np.uint8))
    metrics = Metrics()
    frames = frames_of(camera_of(open_source(str(tmp_path)), metrics))
    assert [f.source for f in frames] == ["c.jpg"]
    assert metrics.summary() == {"frames_captured": 1, "pictures_unreadable": 2}


def test_a_folder_without_a_readable_image_is_an_error_at_its_end(tmp_path: Path) -> None:
    """To have answered nothing is no success: the folder is named."""
    (tmp_path / "a.jpg").write_bytes(b"not a picture")
    source = FolderSource(tmp_path)
    with pytest.raises(UnreadablePictureError):
        source.read()
    with pytest.raises(SourceError, match=re.escape(str(tmp_path))):
        source.read()


def test_a_video_that_ends_early_is_told_of(tmp_path: Path) -> None:
    """Frames read are held against those that the file promises; a sound file is not complained of."""
    whole = write_video(tmp_path / "whole.avi", 10)
    broken = tmp_path / "broken.avi"
    broken.write_bytes(whole.read_bytes()[: whole.stat().st_size * 3 // 4])
    for path, warned in ((whole, False), (broken, True)):
        source = VideoSource(str(path), live=False)
        with capture_logs() as log:
            count = sum(1 for _ in iter(source.read, None))
        assert [(line["frames_read"], line["frames_promised"]) for line in log] == [(count, 10)] * warned


def test_single_image(tmp_path: Path) -> None:
    """One image file is a folder of one."""
    path = tmp_path / "one.png"
    cv2.imwrite(str(path), np.zeros((4, 6, 3), np.uint8))
    assert [f.source for f in frames_of(camera_of(open_source(str(path))))] == ["one.png"]


def test_video_is_read_to_its_end_and_again(tmp_path: Path) -> None:
    """A video file gives all its frames in order and its rate; `loop` opens it anew."""
    source = open_source(str(write_video(tmp_path / "clip.avi", 5)))
    assert source.fps == pytest.approx(25)
    frames = frames_of(camera_of(source, loop=True, max_frames=10))
    grey = [int(f.image.mean()) for f in frames]
    assert grey[:5] == sorted(set(grey[:5]))
    assert grey[:5] == grey[5:]
    source.close()


@pytest.mark.parametrize("source", ["/no/such/thing.mp4", "no-such-folder/", "/dev/video97"])
def test_absent_source_is_named(source: str) -> None:
    """A source that does not exist is a SourceError that names it."""
    with pytest.raises(SourceError, match=source.replace("/dev/video", "").strip("/")):
        open_source(source)


def test_file_without_video_is_refused(tmp_path: Path) -> None:
    """A file that OpenCV cannot open as video is a SourceError."""
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(SourceError, match=r"clip\.mp4"):
        open_source(str(path))


def test_folder_without_images_is_refused(tmp_path: Path) -> None:
    """A folder without a single image is a SourceError, not an empty run."""
    with pytest.raises(SourceError, match="no images"):
        open_source(str(tmp_path))


def test_live_source_that_ends_is_an_error(tmp_path: Path) -> None:
    """A stream that gives no more frames has failed; only files end well."""
    source = VideoSource(str(write_video(tmp_path / "clip.avi", 2)), live=True)
    camera = camera_of(source, pace=Pace.REALTIME)
    with pytest.raises(SourceError, match="no more frames"):
        camera.run()
    assert len(list(taken_from(camera))) == 2
    source.close()


def test_fps_thins_out_a_live_source() -> None:
    """`fps` on a live source thins it out: of frames that come at once, only the first is taken."""
    frames = frames_of(camera_of(CountingSource(100, live=True), fps=0.001))
    assert [int(f.image[0, 0, 0]) for f in frames] == [0]


def test_a_still_scene_gives_few_frames() -> None:
    """Two seconds of pictures that differ by a grey level each; a plain number asks no scene."""
    metrics, fps = Metrics(), FrameRateConfig(min=1.0, max=30.0)
    times_s = (number / 25 for number in range(50))
    camera = camera_of(
        CountingSource(50, live=True),
        metrics,
        pace=Pace.REALTIME,
        queue_size=50,
        fps=fps,
        monotonic_s=lambda: next(times_s),
    )
    assert [frame.sequence for frame in frames_of(camera)] == list(range(9))
    assert metrics.summary() == {"frames_captured": 9, "pictures_thinned[scene]": 41}
    assert camera.scene_fps == 1.0
    camera.reconfigure(CameraConfig(source="x", fps=5.0))
    assert camera.scene_fps is None


@pytest.mark.parametrize("live", [True, False])
def test_a_camera_that_is_slowed_down_numbers_what_it_takes(live: bool) -> None:
    """Pictures passed over are counted with their reason and have no number, so that the books hold.

    The place of a file's picture is then in its name.
    """
    metrics = Metrics()
    keys = {"pace": Pace.REALTIME, "queue_size": 50} | ({} if live else {"fps": 1000.0})
    camera = camera_of(CountingSource(40, live=live), metrics, **keys)
    camera.slow_down(0.25, "heat")
    frames = frames_of(camera)
    assert [int(f.image[0, 0, 0]) for f in frames] == list(range(3, 40, 4))
    assert [f.sequence for f in frames] == list(range(10))
    assert metrics.summary() == {"frames_captured": 10, "pictures_thinned[heat]": 30}
    assert [f.source for f in frames] == ([""] * 10 if live else [f"#{at}" for at in range(3, 40, 4)])


def test_a_file_whose_name_is_no_text_has_one_in_records(tmp_path):
    """Linux allows any bytes; as Python gives them, no JSON can hold them."""
    picture = cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes()
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")).write_bytes(picture)
    found = FolderSource(tmp_path).read()
    assert found is not None
    assert found.name == r"\xff.png"


class Damaged:
    """A live source whose pictures are all damaged, until it ends."""

    live = True
    fps = None

    def __init__(self, pictures: int) -> None:
        self._left = pictures

    def read(self) -> Picture | None:
        """Another damaged one."""
        self._left -= 1
        if self._left < 0:
            return None
        raise UnreadablePictureError("camera.source: a damaged JPEG")

    def rewind(self) -> None:
        """It cannot."""

    def close(self) -> None:
        """Nothing is open."""


def test_damaged_pictures_do_not_flood_the_log() -> None:
    """A camera with a bad cable gives thirty a second, for months: one line a second, and each is counted."""
    metrics = Metrics()
    camera = Camera(
        Damaged(500), CameraConfig(source="x"), "b", FrameEvents(metrics, lambda _: DeliveryAck(0))
    )
    with capture_logs() as log:
        camera.run()
    assert 1 <= len([entry for entry in log if entry["event"] == "picture skipped"]) < 50
    assert metrics.summary()["pictures_unreadable"] == 500
