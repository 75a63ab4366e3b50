"""A stream of video gives the picture that its sender has, or asks for a key, whatever comes in any order."""

import threading
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spillover.cloud.serving.streams.losses import Loss, LostError
from spillover.cloud.serving.streams.video import RING, VideoStream
from spillover.common.video.h264 import Decoder
from spillover.common.video.planes import picture_of
from tests.support.video_sender import VideoSender

LAST, KEYS = 14, (1, 6, 11)


@cache
def sent():
    """A sender that has sent some pictures, with three keys among them."""
    sender = VideoSender()
    for number in range(1, LAST + 1):
        sender.add(key=number in KEYS)
    return sender


def key_of(number):
    """The key that a number builds on."""
    return max(key for key in KEYS if key <= number)


@st.composite
def payloads(draw, last=LAST):
    """What a sender may send: a number behind some reference of the same key, or from the key on."""
    number = draw(st.integers(1, last))
    return sent().video(number, draw(st.sampled_from([0, *range(key_of(number), number)])))


def shown(stream, video):
    """The picture that a stream gives for a payload, or why it gives none."""
    try:
        return picture_of(stream.decode(video).planes)
    except LostError as error:
        return error.loss


def assert_right(stream, video):
    """Right, or nothing."""
    if not isinstance(found := shown(stream, video), Loss):
        np.testing.assert_array_equal(found, sent().pictures[video.position.number])
    return found


def test_in_order_every_picture_is_right():
    """The decoder goes on with each packet, and decodes none twice."""
    stream, sender = VideoStream(), sent()
    for number in range(1, LAST + 1):
        decoded = stream.decode(sender.video(number, 0 if number in KEYS else number - 1))
        np.testing.assert_array_equal(picture_of(decoded.planes), sender.pictures[number])
        assert decoded.count == 1


@given(st.lists(payloads(), max_size=30))
def test_in_any_order_each_picture_is_right_or_none(videos):
    """Lost, late, repeated and overtaken payloads of three keys never give a wrong picture or break it."""
    stream = VideoStream()
    for video in videos:
        assert not isinstance(found := assert_right(stream, video), Loss) or not found.is_final


@given(st.lists(payloads(10), max_size=20))
def test_a_newer_key_is_always_answered(videos):
    """Whatever came before."""
    stream = VideoStream()
    for video in videos:
        shown(stream, video)
    assert not isinstance(assert_right(stream, sent().video(KEYS[-1])), Loss)


@given(st.integers(1, 5), st.integers(0, RING - 1), st.integers(1, RING))
def test_behind_a_reference_that_is_held_everything_is_answered(reference, lost, again):
    """Payloads that were lost are made up for by the next, and the newest few are answered again."""
    stream, sender = VideoStream(), sent()
    stream.decode(sender.video(reference))
    number = min(reference + 1 + lost, 5)
    if number > reference:
        assert_right(stream, sender.video(number, reference))
    for repeated in range(max(1, number - again + 1), number + 1):
        assert not isinstance(assert_right(stream, sender.video(repeated, 0)), Loss)


@given(payloads(), st.integers(1, 2**32 - 1))
def test_a_forged_digest_gives_nothing(video, difference):
    """The stream is dropped, and only a key goes on."""
    stream, sender, position = VideoStream(), sent(), video.position
    stream.decode(sender.video(position.reference or key_of(position.number)))
    forged = replace(video, position=replace(position, digest=position.digest ^ difference))
    assert shown(stream, forged) is Loss.DIGEST
    assert shown(stream, sender.video(LAST, LAST - 1)) is Loss.GAP
    assert not isinstance(assert_right(stream, sender.video(LAST)), Loss)


def test_a_decoder_that_failed_half_way_is_not_used_again(monkeypatch):
    """No memory for the planes, say: the codec has the packet behind it, and its number is not noted."""
    stream, sender, decode = VideoStream(), sent(), Decoder.decode

    def no_memory(decoder, packet):
        decode(decoder, packet)
        raise MemoryError

    stream.decode(sender.video(1))
    with monkeypatch.context() as patched:
        patched.setattr(Decoder, "decode", no_memory)
        with pytest.raises(MemoryError):
            stream.decode(sender.video(2, 1))
    assert shown(stream, sender.video(2, 1)) is Loss.GAP
    assert not isinstance(assert_right(stream, sender.video(3)), Loss)


@st.composite
def mutations(draw):
    """A payload with packets of another stream, cut, doubled, swapped, or with bytes changed."""
    video = draw(payloads())
    packets = [bytearray(packet) for packet in video.packets]
    for _ in range(draw(st.integers(1, 4))):
        packet = draw(st.sampled_from(packets))
        match draw(st.sampled_from(["change", "cut", "insert", "swap", "other"])):
            case "change" if packet:
                packet[draw(st.integers(0, len(packet) - 1))] = draw(st.integers(0, 255))
            case "cut":
                del packet[draw(st.integers(0, len(packet))) :]
            case "insert":
                at = draw(st.integers(0, len(packet)))
                packet[at:at] = draw(st.binary(max_size=40))
            case "swap":
                packets.reverse()
            case _:
                packet[:] = sent().packets[draw(st.integers(1, LAST))]
    return replace(video, packets=tuple(map(bytes, packets)))


@settings(max_examples=300)
@given(st.lists(st.one_of(payloads(), mutations()), min_size=1, max_size=6))
def test_damaged_packets_never_give_a_wrong_picture(videos):
    """Real bitstreams, mutated: each answer is right, or none; and a good key goes on after all of them."""
    stream = VideoStream()
    for video in videos:
        assert_right(stream, video)
    last = sent().video(LAST)
    if isinstance(assert_right(stream, last), Loss):  # a damaged packet stood for a number of this key
        assert not isinstance(assert_right(stream, last), Loss)


def test_pictures_of_other_sides_are_refused():
    """A payload that says other sides than its key."""
    stream = VideoStream()
    stream.decode(sent().video(1))
    assert shown(stream, replace(sent().video(2, 1), width=320)) is Loss.SIDES
    assert shown(stream, replace(sent().video(1), width=32)) is not Loss.CODEC  # it is held already
    assert not isinstance(assert_right(stream, sent().video(2, 1)), Loss)


def test_what_a_decoder_would_keep_for_nothing_is_refused():
    """A key that is right but for one parameter set too many, of which 256 would take 45 MB."""
    stream, key = VideoStream(), sent().video(1)
    start = b"\x00\x00\x01"
    again = next(start + unit for unit in key.packets[0].split(start) if unit[:1] == b"\x68")
    assert shown(stream, replace(key, packets=(again + key.packets[0],))) is Loss.CODEC
    assert not isinstance(assert_right(stream, key), Loss)


def test_a_key_of_other_sides_begins_anew():
    """A camera that changes its size goes on with a key."""
    stream, sender = VideoStream(), VideoSender(32, 64)
    stream.decode(sent().video(1))
    for _ in range(3):
        sender.add()
    np.testing.assert_array_equal(shown(stream, sender.video(3)), sender.pictures[3])


def test_what_has_left_the_ring_is_told_so():
    """Only the newest pictures are kept."""
    stream = VideoStream()
    stream.decode(sent().video(5))
    held = [shown(stream, sent().video(number)) for number in range(1, 6)]
    assert [one is Loss.PASSED for one in held] == [True, False, False, False, False]


def test_calls_of_one_stream_on_several_threads_are_all_right():
    """Whichever comes first: each is right, because its reference is held and the ring is long enough."""
    stream, sender = VideoStream(), sent()
    stream.decode(sender.video(11))
    videos = [sender.video(number, 11) for number in (12, 13, 14)] * 8
    found = []
    barrier = threading.Barrier(len(videos))

    def call(video):
        barrier.wait()
        found.append(assert_right(stream, video))

    threads = [threading.Thread(target=call, args=(video,)) for video in videos]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == len(videos)
    assert not any(isinstance(one, Loss) for one in found)


@pytest.mark.parametrize("sides", [(64, 48), (416, 312)])
def test_what_a_stream_is_charged_grows_with_its_pictures(sides):
    """More than its ring alone, and no absurd multiple of it."""
    ring = RING * sides[0] * sides[1] * 3 // 2
    assert ring < VideoStream.bytes_of(*sides) < 1_000_000 + 3 * ring
