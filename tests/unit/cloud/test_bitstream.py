"""What a packet of H.264 may hold: one picture of the sides that were said, and no memory beyond that."""

from contextlib import suppress
from fractions import Fraction

import av
import numpy as np
import pytest
from av.video.frame import PictureType
from hypothesis import given
from hypothesis import strategies as st

from spillover.cloud.serving.streams.bitstream import MOST_UNITS, check_packet, most_packet_bytes
from spillover.common.errors import InvalidInputError
from tests.support.video_sender import HEIGHT, WIDTH, VideoSender

START = b"\x00\x00\x01"


def packets(count=2, pix_fmt="yuv420p", sides=(WIDTH, HEIGHT), **x264):
    """Packets of some noise, from x264 with these parameters."""
    codec = av.CodecContext.create("libx264", "w")
    codec.width, codec.height = sides
    codec.pix_fmt, codec.time_base, codec.thread_count = pix_fmt, Fraction(1, 25), 1
    params = {"keyint": "infinite", "scenecut": 0, "bframes": 0, "ref": 1} | x264
    text = ":".join(f"{key}={value}" for key, value in params.items())
    codec.options = {"preset": "medium", "tune": "zerolatency", "crf": "28", "x264-params": text}
    random, made = np.random.default_rng(3), []
    for number in range(count):
        image = random.integers(0, 255, (sides[1], sides[0], 3), np.uint8)
        frame = av.VideoFrame.from_ndarray(image, format="bgr24").reformat(format=pix_fmt)
        frame.pts = number
        frame.pict_type = PictureType.NONE if number else PictureType.I
        made += [bytes(packet) for packet in codec.encode(frame)]
    return made


KEY, NEXT = packets()


def refused(packet, *, key=True, sides=(WIDTH, HEIGHT)):
    """Why a packet is refused."""
    with pytest.raises(InvalidInputError) as error:
        check_packet(packet, *sides, key=key)
    return str(error.value)


@pytest.mark.parametrize("sides", [(2, 2), (WIDTH, HEIGHT), (416, 312)])
@pytest.mark.parametrize("x264", [{}, {"slices": 4}, {"crf": 0}, {"cabac": 0, "8x8dct": 0}, {"aud": 1}])
def test_what_an_encoder_makes_passes(sides, x264):
    """Keys and what follows, of any sides, in several slices, without loss too."""
    key, after = packets(sides=sides, **x264)
    check_packet(key, *sides, key=True)
    check_packet(after, *sides, key=False)


def test_our_own_encoder_passes():
    """Its second key too."""
    sender = VideoSender()
    for number in range(6):
        sender.add(key=number == 3)
        check_packet(sender.packets[number + 1], WIDTH, HEIGHT, key=number + 1 in sender.keys)


def test_a_key_is_one_and_nothing_else_is():
    """A picture that needs others is no key; parameter sets come with keys alone."""
    assert "NAL units of types [1]" in refused(NEXT)
    assert "NAL units" in refused(KEY, key=False)


@pytest.mark.parametrize(
    ("pix_fmt", "x264", "why"),
    [
        ("yuv420p", {"ref": 4}, "4 reference pictures"),
        ("yuv444p", {}, "not 4:2:0"),
        ("yuv422p", {}, "profile 122"),
        ("yuv420p10le", {}, "profile 110"),
        ("yuv420p", {"tff": 1}, "interlaced"),
    ],
)
def test_other_kinds_of_pictures_are_refused(pix_fmt, x264, why):
    """More references, colours, depth or fields than were agreed cost memory or give no picture."""
    assert why in refused(packets(8, pix_fmt, **x264)[0])


@pytest.mark.parametrize("sides", [(WIDTH + 16, HEIGHT), (WIDTH, HEIGHT + 16), (1920, 1080), (2, 2)])
def test_other_sides_than_were_said_are_refused(sides):
    """Before the codec sees them."""
    assert "macroblocks" in refused(KEY, sides=sides)


def test_parameter_sets_do_not_pile_up():
    """A second one of either kind is refused, and so are units of no use."""
    units = [START + unit for unit in KEY.lstrip(b"\x00\x01").split(START)]
    for kind in (7, 8, 12, 14, 15, 19, 20):
        again = next((unit for unit in units if unit[3] & 31 == kind), START + bytes([kind, 1, 2]))
        assert "NAL units" in refused(again + KEY)


def test_length_and_number_of_units_are_bounded():
    """A packet is as long as a picture can need."""
    assert "bytes; the limit is" in refused(NEXT + bytes(most_packet_bytes(WIDTH, HEIGHT)), key=False)
    assert "more than 64" in refused(START * (MOST_UNITS + 1), key=False)


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_pass_or_are_refused(data, key):
    """Nothing but InvalidInputError is raised, and nothing without a start code passes."""
    with pytest.raises(InvalidInputError):
        check_packet(data.replace(START, b""), WIDTH, HEIGHT, key=key)
    sequence = START + b"\x67" + data + START + b"\x68\x01" + START + b"\x65\x01"
    for packet in (data, sequence):
        with suppress(InvalidInputError):
            check_packet(packet, WIDTH, HEIGHT, key=True)
