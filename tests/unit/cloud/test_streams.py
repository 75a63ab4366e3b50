"""Streams of many callers: each its own, within the bytes that are allowed, and counted."""

import sys
from contextlib import contextmanager, suppress
from dataclasses import replace

import av
import numpy as np
import pytest
from structlog.testing import capture_logs

from spillover.cloud.serving.admission import Call
from spillover.cloud.serving.streams.losses import Loss, LostError
from spillover.cloud.serving.streams.streams import LONGEST, Streams, fault_of_video
from spillover.cloud.serving.streams.table import HOLDER_SHARE, IDLE_S, Refusal, RefusedError
from spillover.cloud.serving.streams.video import VideoStream
from spillover.cloud.telemetry.metrics import Metrics
from spillover.common.errors import TooLargeError
from tests.support.video_sender import HEIGHT, WIDTH, VideoSender

ONE = VideoStream.bytes_of(WIDTH, HEIGHT)
ANN, BOB = (Call(name, name, is_proven=True) for name in ("ann", "bob"))
STRANGER = Call("ipv4:10.0.0.1:5", "ann")


class Seen:
    """Stands in for a model: what it is shown is the input."""

    def __init__(self, max_pixels=10**6):
        self.max_pixels = max_pixels

    def prepare_picture(self, image):
        """The picture as it is."""
        return (image,), ()


class World:
    """Streams with a clock that the test turns, and what they counted."""

    def __init__(self, room=8, has_codec=True):
        self.now_s = 0.0
        self.metrics = Metrics()
        self.streams = Streams(room * ONE, has_codec, self.metrics.of_streams(), lambda: self.now_s)

    def show(self, video, call=ANN, vision=None):
        """The picture that a call is answered for."""
        with self.streams.looking(video, call, vision or Seen()) as undecoded:
            assert undecoded.measure() >= undecoded.cost
            (picture,), _ = undecoded.prepare()
            return picture

    def loss(self, video, call=ANN):
        """Why a payload is lost."""
        with pytest.raises(LostError) as error:
            self.show(video, call)
        return error.value.loss

    def refusal(self, video, call=ANN):
        """Why a stream may not begin."""
        with pytest.raises(RefusedError) as error:
            self.show(video, call)
        return error.value.reason

    def value(self, name, **labels):
        """A metric."""
        return self.metrics.registry.get_sample_value(f"spillover_{name}", labels)


@contextmanager
def held(world, videos, call=ANN):
    """Streams that are in use while inside."""
    entered = [world.streams.looking(video, call, Seen()) for video in videos]
    for one in entered:
        one.__enter__()
    yield
    for one in entered:
        one.__exit__(None, None, None)


def key():
    """The key of a new stream."""
    sender = VideoSender()
    return sender.video(sender.add())


def test_another_caller_does_not_reach_a_stream():
    """Who knows a stream's id and its packets is told that it is not held, unless it is the same caller."""
    world, sender = World(), VideoSender()
    sender.add(), sender.add()
    world.show(sender.video(1))
    follows = sender.video(2, 1)
    assert world.loss(follows, BOB) is Loss.UNKNOWN
    assert world.loss(follows, STRANGER) is Loss.UNKNOWN  # it calls itself ann
    np.testing.assert_array_equal(world.show(follows), sender.pictures[2])


def test_another_caller_s_key_does_not_touch_a_stream():
    """The same id in two callers' names is two streams."""
    world, sender, other = World(), VideoSender(), VideoSender()
    other.stream_id = sender.stream_id
    sender.add(), sender.add(), other.add(np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    world.show(sender.video(1))
    world.show(other.video(1), BOB)
    np.testing.assert_array_equal(world.show(sender.video(2, 1)), sender.pictures[2])


def test_a_caller_without_an_identity_keeps_its_stream_over_connections():
    """What it says it is and the stream's id find it, whichever connection it comes by."""
    world, sender = World(), VideoSender()
    sender.add(), sender.add()
    world.show(sender.video(1), STRANGER)
    again = Call("ipv4:10.0.0.1:6", STRANGER.device)
    np.testing.assert_array_equal(world.show(sender.video(2, 1), again), sender.pictures[2])


def test_beyond_a_caller_s_share_streams_are_refused():
    """Until one of its own is idle."""
    world = World(room=2 * HOLDER_SHARE)
    world.show(key()), world.show(key())
    assert world.refusal(key()) is Refusal.SHARE
    world.show(key(), BOB)
    world.now_s += IDLE_S
    world.show(key())
    assert world.value("stream_dropped_total") == 1
    assert world.value("stream_refused_total", reason="share") == 1


def test_a_thousand_streams_stay_within_the_bytes_that_are_allowed():
    """Those beyond are refused, none that is held is dropped, and all that are held go on."""
    room = 100
    world, sender = World(room), VideoSender()
    sender.add(), sender.add()
    calls = [Call(f"device-{number}", f"device-{number}", is_proven=True) for number in range(1000)]
    begun = []
    for call in calls:
        with suppress(RefusedError):
            world.show(sender.video(1), call)
            begun.append(call)
        assert world.value("stream_bytes") <= world.value("stream_limit_bytes")
    assert len(begun) == room
    assert world.value("stream_refused_total", reason="full") == 1000 - room
    for call in begun:
        np.testing.assert_array_equal(world.show(sender.video(2, 1), call), sender.pictures[2])
    assert world.value("streams", state="idle") == room


def test_a_stream_that_has_drifted_makes_room_at_once():
    """Nothing of it is left; the log says so once, and the metrics why."""
    world = World(room=HOLDER_SHARE)
    video = key()
    forged = replace(video, position=replace(video.position, digest=video.position.digest ^ 1))
    with capture_logs() as log:
        assert world.loss(forged) is Loss.DIGEST
    assert [line["event"] for line in log] == ["stream dropped"]
    world.show(key())
    assert world.value("stream_lost_total", reason="digest") == 1


def test_streams_in_use_are_never_dropped():
    """However long a call takes."""
    world = World(room=HOLDER_SHARE)
    with held(world, [key()]):
        world.now_s += 1000.0
        assert world.value("streams", state="busy") == 1
        assert world.refusal(key()) is Refusal.SHARE
    assert world.value("streams", state="idle") == 1


def test_what_is_counted():
    """Keys, pictures, those of them that nobody asked for, and what was lost."""
    world, sender = World(), VideoSender()
    for _ in range(5):
        sender.add()
    world.show(sender.video(1))
    world.show(sender.video(5, 1))
    assert world.loss(sender.video(5, 4), BOB) is Loss.UNKNOWN
    assert world.value("stream_keys_total") == 1
    assert world.value("stream_pictures_total") == 5
    assert world.value("stream_pictures_unasked_total") == 3
    assert world.value("stream_lost_total", reason="unknown") == 1


def test_the_cost_is_that_of_the_packets_that_are_missing():
    """A repeated call costs one picture, another one those that it brings."""
    world, sender = World(), VideoSender()
    for _ in range(5):
        sender.add()
    for video, pictures in [(sender.video(1), 1), (sender.video(5, 1), 4), (sender.video(5, 1), 1)]:
        with world.streams.looking(video, ANN, Seen()) as undecoded:
            assert undecoded.cost == pictures * WIDTH * HEIGHT
            undecoded.prepare()


def test_pictures_beyond_the_limit_are_refused_before_anything_is_kept():
    """By the sides that are said; so is what would take too long to decode."""
    world, sender = World(), VideoSender()
    for _ in range(LONGEST + 1):
        sender.add()
    with pytest.raises(TooLargeError):
        world.show(sender.video(1), vision=Seen(WIDTH * HEIGHT - 1))
    assert world.value("streams", state="idle") == 0
    with pytest.raises(LostError) as error:
        world.show(sender.video(LONGEST + 1), vision=Seen(WIDTH * HEIGHT))
    assert error.value.loss is Loss.LONG
    world.show(sender.video(LONGEST), vision=Seen(WIDTH * HEIGHT))


def test_sides_that_no_share_has_room_for_are_refused():
    """A forged key of large sides is refused by its size, before a decoder is made."""
    world = World()
    huge = replace(key(), width=4096, height=4096)
    with pytest.raises(RefusedError):
        world.show(huge, vision=Seen(10**9))
    assert world.value("stream_bytes") == 0


def test_after_the_stop_nothing_is_kept_and_nothing_begins():
    """A call that is under way ends as if nothing had happened."""
    world, sender = World(), VideoSender()
    sender.add(), sender.add()
    with held(world, [sender.video(1)]):
        world.streams.stop()
    assert world.value("stream_bytes") == 0
    assert world.refusal(key()) is Refusal.OFF
    assert world.loss(sender.video(2, 1)) is Loss.UNKNOWN


def test_without_a_codec_video_is_refused_and_the_server_knows_what_to_install(monkeypatch):
    """The command with its paths is for the server's operator; a device that reads it looks at itself."""
    with pytest.raises(RefusedError, match="this server has no codec") as error:
        World(has_codec=False).show(key())
    assert error.value.reason is Refusal.CODEC
    assert not any(word in str(error.value) for word in ("pip", "/", "install"))
    monkeypatch.setitem(sys.modules, "av", None)
    assert "spillover[video]" in fault_of_video()


def test_a_codec_that_cannot_be_loaded_ends_no_server(monkeypatch, tmp_path):
    """A library that FFmpeg links to is missing: the server serves no video, and says why."""
    (tmp_path / "av").mkdir()
    text = "libfoo.so.1: cannot open shared object file"
    (tmp_path / "av" / "__init__.py").write_text(f"raise ImportError({text!r})")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "av")
    assert text in (fault := fault_of_video())
    assert "pip install" in fault


def test_an_ffmpeg_without_h264_is_no_codec(monkeypatch):
    """Known before the first device sends video, which each call of it would fail."""
    monkeypatch.setattr("av.CodecContext", _NoContext)
    assert "no codec h264" in fault_of_video()


class _NoContext:
    """Stands in for FFmpeg's codecs, built without any."""

    @staticmethod
    def create(name, mode):
        """As FFmpeg says it."""
        raise av.codec.codec.UnknownCodecError(name)


def test_a_failing_call_gives_the_stream_back():
    """Whatever is raised inside."""
    world = World()
    with suppress(KeyError), world.streams.looking(key(), ANN, Seen()):
        raise KeyError
    assert world.value("streams", state="busy") == 0
