"""Frames as video, by the real codec: what leaves is what a receiver that lost anything can tell from it."""

import threading
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from structlog.testing import capture_logs

from spillover.common.coding import MOST_NUMBER
from spillover.common.errors import InvalidInputError
from spillover.common.images import EncodedImage, decode_jpeg
from spillover.common.types import Frame
from spillover.common.video.h264 import Encoder
from spillover.common.video.planes import picture_of
from spillover.edge.config import PayloadKind, SplitConfig, UplinkConfig, VideoConfig
from spillover.edge.payload.camera_streams import IDLE_S
from spillover.edge.payload.encoder import PICTURE, VIDEO, PayloadEncoder, as_it_waits
from spillover.edge.payload.streams import REFUSED_S, KeyCause, Outlook
from spillover.edge.payload.types import EncodedVideo, behind_bytes, is_key
from spillover.edge.payload.video import MOST_PACKETS, VideoStreams, shrink
from tests.support.edge_values import frame
from tests.support.video import CountedStreams, Receiver, held_codecs, scene

CONFIG = UplinkConfig(payload=PayloadKind.VIDEO, video=VideoConfig(crf=28))


class Bench:
    """Streams with a clock and draws of the test, and a receiver for each camera."""

    def __init__(self, config: UplinkConfig = CONFIG, most_cameras: int = 4) -> None:
        self.now_s = 0.0
        self.counted = CountedStreams()
        self.streams = VideoStreams(config, most_cameras, self.counted, lambda: self.now_s, lambda: 0.5)

    def encode(self, image, camera_id: str = "camera") -> EncodedVideo:
        """A frame that has to go as video."""
        video = self.streams.encode(camera_id, image)
        assert video is not None
        return video

    def answered(self, image, camera_id: str = "camera") -> EncodedVideo:
        """The same, and the server has answered to it."""
        video = self.encode(image, camera_id)
        self.streams.acknowledged(video)
        return video


def test_the_first_frame_is_a_key_and_an_answer_makes_it_the_reference():
    """What follows is one small packet, coded against it."""
    bench, receiver = Bench(), Receiver()
    first = bench.answered(scene(0))
    assert first.position.is_key
    assert receiver.takes(first) is not None
    second = bench.answered(scene(1))
    assert (second.position.number, second.position.reference, len(second.packets)) == (2, 1, 1)
    assert receiver.takes(second) is not None
    assert len(second.data) < len(first.data) / 2
    assert bench.counted.keys == [KeyCause.FIRST]


def test_what_has_no_answer_yet_is_sent_again():
    """So that calls may overlap and get lost: each carries everything behind its reference."""
    bench, receiver = Bench(), Receiver()
    bench.streams.acknowledged(bench.encode(scene(0)))
    lost = [bench.encode(scene(number)) for number in (1, 2)]
    third = bench.encode(scene(3))
    assert [len(video.packets) for video in (*lost, third)] == [1, 2, 3]
    assert third.packets[:2] == lost[1].packets
    assert behind_bytes(third) == len(lost[1].data)
    assert receiver.takes(bench.encode(scene(4))) is None  # it has never had the key
    bench.streams.acknowledged(lost[1])
    assert len(bench.encode(scene(5)).packets) == 3


def test_the_outlook_says_what_the_next_frame_will_be():
    """A key, or what is sent again with it; None while the stream pauses."""
    bench = Bench()
    assert bench.streams.outlook("camera") == Outlook(key=True)
    first = bench.encode(scene(0))
    assert bench.streams.outlook("camera") == Outlook(key=False, behind_bytes=len(first.data))
    bench.streams.acknowledged(first)
    assert bench.streams.outlook("camera") == Outlook(key=False)
    bench.streams.lost(bench.encode(scene(1)))
    assert bench.streams.outlook("camera") == Outlook(key=True)
    bench.streams.refused(bench.encode(scene(2)))
    assert bench.streams.outlook("camera") is None
    assert bench.streams.encode("camera", scene(3)) is None
    assert bench.streams.outlook("other") == Outlook(key=True)


def test_a_key_in_the_middle_needs_nothing_before_it():
    """A receiver that begins with it has the digest that was told, as has one that was there all the time."""
    bench, old = Bench(), Receiver()
    for number in range(4):
        assert old.takes(bench.answered(scene(number))) is not None
    bench.streams.lost(bench.encode(scene(4)))
    key = bench.encode(scene(5))
    assert is_key(key)
    assert (key.position.number, key.position.reference) == (6, 0)
    assert Receiver().takes(key) is not None
    assert old.takes(key) is not None
    assert bench.counted.keys == [KeyCause.FIRST, KeyCause.LOST]


def test_what_is_behind_is_bounded_by_a_key():
    """By packets, and by bytes, as where a scene moves and no answer comes."""
    bench = Bench()
    sent = [bench.encode(np.full((64, 96, 3), 90, np.uint8)) for _ in range(3 * MOST_PACKETS)]
    assert max(len(video.packets) for video in sent) == MOST_PACKETS
    assert bench.counted.keys == [KeyCause.FIRST, KeyCause.BEHIND, KeyCause.BEHIND]
    noise = np.random.default_rng(1)
    bench = Bench()
    sent = [bench.encode(noise.integers(0, 255, (64, 96, 3), np.uint8)) for _ in range(12)]
    keys = [len(video.data) for video in sent if is_key(video)]
    assert len(keys) > 2
    assert max(len(video.data) for video in sent) < max(8_000, 2 * max(keys)) + max(keys)


SIZES = [(64, 96), (48, 64), (65, 97), (2, 96), (1, 1), (96, 3), (481, 641)]


def test_pictures_of_another_size_begin_with_a_key():
    """Odd ones, narrow ones and single pixels too; the stream stays the same."""
    bench, receiver = Bench(), Receiver()
    videos = [bench.answered(np.full((*size, 3), 60, np.uint8)) for size in SIZES for _ in range(2)]
    assert [is_key(video) for video in videos] == [True, False] * len(SIZES)
    assert bench.counted.keys == [KeyCause.FIRST] + [KeyCause.CHANGED] * (len(SIZES) - 1)
    assert len({video.position.stream_id for video in videos}) == 1
    for video in videos:
        planes = receiver.takes(video)
        assert planes is not None
        assert planes.shape == (video.height * 3 // 2, video.width)
        assert np.abs(picture_of(planes).astype(int) - 60).max() <= 3


def test_a_camera_that_turns_to_infra_red_and_back_goes_on():
    """Grey pictures are pictures; what arrives looks as it did."""
    bench, receiver = Bench(), Receiver()
    for number in range(12):
        image = scene(number)
        if 4 <= number < 8:
            grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
            image = cv2.merge([grey, grey, grey])
        planes = receiver.takes(bench.answered(image))
        assert planes is not None
        assert np.abs(picture_of(planes).astype(int) - image).mean() < 6
    assert bench.counted.keys == [KeyCause.FIRST]


@pytest.mark.parametrize("size", SIZES)
def test_boxes_are_led_back_to_the_frame(size):
    """Whatever becomes of its sides, which are even: the whole picture is the whole frame."""
    image = np.zeros((*size, 3), np.uint8)
    small, transform = shrink(image, 64)
    height, width = small.shape[:2]
    assert (width % 2, height % 2) == (0, 0)
    assert max(width, height) <= 64
    whole = transform.to_frame(np.array([[0, 0, width, height]], np.float32))
    assert whole == pytest.approx(np.array([[0, 0, size[1], size[0]]]), abs=1e-3)


def test_a_picture_keeps_its_shape_and_is_not_enlarged():
    """As JPEG variants are shrunk: to the longest side, the other in proportion."""
    assert shrink(np.zeros((768, 1024, 3), np.uint8), 416)[0].shape == (312, 416, 3)
    assert shrink(np.zeros((100, 60, 3), np.uint8), 416)[0].shape == (100, 60, 3)
    assert shrink(np.zeros((5, 4), np.uint8)[..., None].repeat(3, 2), 33)[0].shape == (4, 4, 3)


def test_alone_a_frame_is_the_usual_picture():
    """Of the whole frame in the configured quality, not of what the codec saw."""
    config = UplinkConfig(payload=PayloadKind.VIDEO, video=VideoConfig(longest_side=32), longest_side=80)
    video = Bench(config).encode(scene(0))
    assert (video.width, video.height) == (32, 20)
    picture = video.alone()
    assert isinstance(picture, EncodedImage)
    assert decode_jpeg(picture.data, 10_000).shape == (53, 80, 3)


def test_a_codec_that_does_not_open_is_left_alone_for_about_a_minute():
    """Counted each time, told once; the frames go as pictures meanwhile."""
    wide = np.zeros((2, 20_000, 3), np.uint8)  # wider than x264 takes
    bench = Bench(UplinkConfig(payload=PayloadKind.VIDEO, video=VideoConfig(longest_side=20_000)))
    with capture_logs() as logged:
        for tries in (1, 2):
            assert bench.streams.encode("camera", wide) is None
            assert bench.streams.encode("camera", scene(1)) is None
            assert bench.counted.failed == tries
            assert bench.streams.outlook("camera") is None
            bench.now_s += 2 * REFUSED_S
    assert [entry["camera"] for entry in logged] == ["camera"]
    assert is_key(bench.encode(scene(2)))
    assert bench.counted.keys == [KeyCause.FAILED]


def test_a_codec_that_fails_on_a_frame_begins_anew_with_a_key(monkeypatch):
    """After the pause, in the same stream, and decodable from there on."""
    bench = Bench()
    bench.answered(scene(0))
    with monkeypatch.context() as broken:

        def refuse(*_: object, **__: object) -> bytes:
            raise InvalidInputError("broken")

        broken.setattr(Encoder, "encode", refuse)
        assert bench.streams.encode("camera", scene(1)) is None
    assert bench.streams.encode("camera", scene(2)) is None
    bench.now_s += 2 * REFUSED_S
    key = bench.encode(scene(3))
    assert Receiver().takes(key) is not None
    assert bench.counted.keys == [KeyCause.FIRST, KeyCause.FAILED]


def test_whatever_ends_the_coding_of_a_frame_the_next_one_is_a_key(monkeypatch):
    """Else the packet of a number that was taken would be missing from what is sent after it."""
    bench = Bench()
    bench.answered(scene(0))
    with monkeypatch.context() as broken:

        def fail(*_: object, **__: object) -> bytes:
            raise MemoryError

        broken.setattr(Encoder, "encode", fail)
        with pytest.raises(MemoryError):
            bench.streams.encode("camera", scene(1))
    bench.now_s += 2 * REFUSED_S
    assert Receiver().takes(bench.encode(scene(2))) is not None


def test_a_stream_without_a_number_left_is_followed_by_another():
    """Its first payload is a key of the number 1."""
    bench = Bench()
    first = bench.answered(scene(0))
    stream = bench.streams._streams.used("camera")  # four billion frames are too many
    stream.sender = replace(stream.sender, newest=MOST_NUMBER)
    key = bench.encode(scene(1))
    assert key.position.number == 1
    assert key.position.stream_id != first.position.stream_id
    assert Receiver().takes(key) is not None


def test_of_more_cameras_than_there_are_the_most_silent_is_let_go():
    """And one that was silent for long, however many there are: their memory is free again."""
    bench = Bench(most_cameras=2)
    for camera_id in ("a", "b", "a", "c"):
        bench.answered(scene(0), camera_id)
    assert bench.streams.outlook("b") == Outlook(key=True)
    assert bench.streams.outlook("a") == Outlook(key=False)
    bench.now_s += IDLE_S - 1
    bench.answered(scene(1), "c")
    bench.now_s += 2
    assert bench.streams.outlook("a") == Outlook(key=True)
    assert bench.streams.outlook("c") == Outlook(key=False)
    assert held_codecs() <= 2


def test_nothing_is_heard_of_what_is_no_video():
    """A picture that was answered, or a stream of an earlier camera."""
    bench, other = Bench(), Bench()
    bench.encode(scene(0))
    before = bench.streams.outlook("camera")
    for payload in (bench.encode(scene(1)).alone(), other.encode(scene(0))):
        bench.streams.lost(payload)
        bench.streams.acknowledged(payload)
        bench.streams.refused(payload)
    after = bench.streams.outlook("camera")
    assert before is not None
    assert after is not None
    assert not before.key
    assert not after.key


def test_answers_do_not_wait_for_a_frame_that_is_being_coded(monkeypatch):
    """They come on gRPC's threads. A loss that comes meanwhile makes the next frame a key."""
    bench = Bench()
    first = bench.encode(scene(0))
    inside, go_on, encode = threading.Event(), threading.Event(), Encoder.encode

    def slowly(encoder: Encoder, image, *, key: bool) -> bytes:
        inside.set()
        assert go_on.wait(30)
        return encode(encoder, image, key=key)

    monkeypatch.setattr(Encoder, "encode", slowly)
    coder = threading.Thread(target=bench.encode, args=(scene(1),))
    coder.start()
    assert inside.wait(30)
    bench.streams.lost(first)
    go_on.set()
    coder.join(30)
    key = bench.encode(scene(2))
    assert is_key(key)
    assert Receiver().takes(key) is not None


def test_the_payload_encoder_sends_video_and_stores_pictures():
    """The usual form is video; what waits, and what goes while the stream pauses, is a JPEG."""
    bench = Bench()
    encoder = PayloadEncoder(CONFIG, "boot", streams={VIDEO: bench.streams})
    sent = encoder.pack(_frame(0))
    assert (sent.option, type(sent.payload)) == (VIDEO, EncodedVideo)
    waiting = as_it_waits(sent)
    assert (waiting.option, type(waiting.payload)) == (PICTURE, EncodedImage)
    stored = encoder.pack_to_wait(_frame(0))
    assert (stored.option, type(stored.payload)) == (PICTURE, EncodedImage)
    assert stored.payload.data == waiting.payload.data
    encoder.refused(sent)
    alone = encoder.pack(_frame(1), VIDEO)
    assert (alone.option, type(alone.payload)) == (PICTURE, EncodedImage)


def test_where_only_features_may_leave_no_video_does():
    """Its name asks for features like any other form."""

    class Head:
        def encode(self, image):
            return "features"

    split = SplitConfig(folder="big", cuts=("cut",))
    config = UplinkConfig(payload=PayloadKind.FEATURES_ONLY, split=split)
    encoder = PayloadEncoder(config, "boot", {"cut": Head()})
    assert encoder.pack(_frame(0), VIDEO).payload == "features"


def _frame(number: int) -> Frame:
    return replace(frame(number), image=scene(number))


class VideoMachine(RuleBasedStateMachine):
    """Calls are lost, late, repeated and reordered, answers too, and the server restarts at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.bench, self.receiver = Bench(UplinkConfig(payload=PayloadKind.VIDEO)), Receiver()
        self.number = 0
        self.calls: list[EncodedVideo] = []
        self.answers: list[tuple[EncodedVideo, bool]] = []

    @rule(still=st.booleans(), wide=st.integers(0, 9))
    def send(self, still, wide) -> None:
        """A frame of a scene that moves or not; seldom one of another size."""
        self.number += not still
        size = (64, 48) if wide else (48, 32)
        video = self.bench.streams.encode("camera", scene(self.number, *size))
        if video is not None:
            self.calls.append(video)

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), repeats=st.booleans())
    def arrive(self, data, repeats) -> None:
        """Any call arrives. The receiver finds by the digest that it has what the edge has."""
        index = data.draw(st.integers(0, len(self.calls) - 1))
        video = self.calls[index] if repeats else self.calls.pop(index)
        self.answers.append((video, self.receiver.takes(video) is not None))

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def lose(self, data) -> None:
        """A call never arrives."""
        self.calls.pop(data.draw(st.integers(0, len(self.calls) - 1)))

    @precondition(lambda self: self.answers)
    @rule(data=st.data(), heard=st.booleans())
    def hear(self, data, heard) -> None:
        """Any answer comes back, or is lost on the way."""
        video, answered = self.answers.pop(data.draw(st.integers(0, len(self.answers) - 1)))
        if heard:
            (self.bench.streams.acknowledged if answered else self.bench.streams.lost)(video)

    @rule(seconds=st.floats(0, 50))
    def restart(self, seconds) -> None:
        """The server forgets everything; time passes."""
        self.receiver = Receiver()
        self.bench.now_s += seconds

    def teardown(self) -> None:
        """On a link that loses nothing a frame is answered after at most one loss."""
        for _ in range(2):
            self.bench.now_s += 2 * REFUSED_S
            if self.receiver.takes(video := self.bench.encode(scene(self.number, 64, 48))) is not None:
                return
            self.bench.streams.lost(video)
        raise AssertionError("a key was lost")


TestVideo = VideoMachine.TestCase
TestVideo.settings = settings(max_examples=25, stateful_step_count=40, deadline=None)
