"""H.264 (ITU-T H.264, Annex B) that somebody has made up or tampered with, and the messages that carry it."""

import os
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import cache

import numpy as np

from spillover.common.coding import StreamPosition
from spillover.common.types import Image
from spillover.common.video.h264 import Decoder, Encoder
from spillover.common.video.planes import digest_of_planes
from spillover.common.wire.conversion import InferenceRequest, Video, request_to_pb

SIDE = 32
_START = b"\0\0\0\1"
_SPS = 0x67


class Sender:
    """An honest stream of pictures of one size, payload by payload; what attackers begin with."""

    def __init__(self, width: int = SIDE, height: int = SIDE, stream_id: bytes | None = None) -> None:
        self.stream_id = stream_id or os.urandom(8)
        self._width, self._height = width, height
        self._encoder, self._decoder = Encoder(width, height, 28), Decoder(width, height)
        self.packets: list[bytes] = []
        self.digest = 0
        """Of the newest picture."""

    def next(self, picture: Image) -> "Sender":
        """Encode one more picture."""
        self.packets.append(self._encoder.encode(picture, key=not self.packets))
        self.digest = digest_of_planes(self._decoder.decode(self.packets[-1]))
        return self

    def message(self, reference: int | None = None) -> bytes:
        """The newest picture against the one before it, or against `reference`."""
        if reference is None:
            reference = len(self.packets) - 1
        return video(
            self.packets[reference:],
            self.stream_id,
            len(self.packets),
            reference,
            self.digest,
            (self._width, self._height),
        )


def video(
    packets: Sequence[bytes],
    stream_id: bytes = b"attacker",
    number: int = 1,
    reference: int = 0,
    digest: int = 0,
    size: tuple[int, int] = (SIDE, SIDE),
) -> bytes:
    """An Infer request with video. The numbers must be a position; what else they claim may be a lie."""
    position = StreamPosition(stream_id, number, reference, digest)
    return request_to_pb(InferenceRequest(video=Video(position, tuple(packets), *size))).SerializeToString()


def moving(number: int, width: int = SIDE, height: int = SIDE) -> Image:
    """Picture `number` of a scene that moves."""
    return np.roll(_noise(width, height), number, axis=1)


def key(width: int = SIDE, height: int = SIDE, stream_id: bytes | None = None) -> Sender:
    """A stream of which the first picture is encoded."""
    return Sender(width, height, stream_id).next(moving(0, width, height))


def giants() -> Iterator[bytes]:
    """Keys whose parameter sets say other sizes than the message, or 16 references."""
    good = key().packets[0]
    after = good.index(_START, good.index(bytes([_SPS])))
    for width, height in ((16_384, 16_384), (65_520, 16), (16, 65_520), (1 << 20, 1 << 20), (48, 48)):
        for references in (1, 16):
            yield _START + bytes([_SPS]) + _parameters(width, height, references) + good[after:]


@cache
def still(width: int, height: int, count: int, references: int = 1) -> tuple[tuple[bytes, ...], int]:
    """`count` packets of a picture in which nothing moves, and the digest of the last.

    They are cheap to send, and dear to decode.
    """
    import av

    codec = av.CodecContext.create("libx264", "w")
    codec.width, codec.height, codec.pix_fmt, codec.time_base = width, height, "yuv420p", Fraction(1, 25)
    parameters = f"keyint=infinite:scenecut=0:bframes=0:ref={references}:rc-lookahead=0"
    codec.options = {"preset": "ultrafast", "tune": "zerolatency", "crf": "40", "x264-params": parameters}
    packets = []
    planes = np.full((height * 3 // 2, width), 90, np.uint8)
    for number in range(count):
        frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        frame.pts = number
        packets += [bytes(packet) for packet in codec.encode(frame)]
    decoder = Decoder(width, height)
    return tuple(packets), [digest_of_planes(decoder.decode(packet)) for packet in packets][-1]


def of_other_kinds() -> Iterator[tuple[bytes, ...]]:
    """Video that is none of H.264 with 8 bits of 4:2:0, one picture a packet."""
    import av

    for codec_name, pixels, options in (
        ("libx264", "yuv444p", {}),
        ("libx264", "yuv420p10le", {}),
        ("libx264", "gray", {}),
        ("libx264", "yuv420p", {"x264-params": "bframes=3:b-adapt=0"}),
        ("libx264", "yuv420p", {"x264-params": "interlaced=1"}),
        ("mpeg4", "yuv420p", {}),
        ("mjpeg", "yuvj420p", {}),
    ):
        codec = av.CodecContext.create(codec_name, "w")
        codec.width, codec.height, codec.pix_fmt = SIDE, SIDE, pixels  # type: ignore[attr-defined]
        codec.time_base = Fraction(1, 25)
        codec.options = options
        packets = []
        for number in range(8):
            frame = av.VideoFrame.from_ndarray(moving(number), format="bgr24").reformat(format=pixels)
            frame.pts = number
            packets += [bytes(packet) for packet in codec.encode(frame)]  # type: ignore[attr-defined]
        packets += [bytes(packet) for packet in codec.encode(None)]  # type: ignore[attr-defined]
        yield tuple(packet for packet in packets if packet)


@cache
def _noise(width: int, height: int) -> Image:
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)


def _parameters(width: int, height: int, references: int) -> bytes:
    """A sequence parameter set of baseline profile, level 5.1 (7.3.2.1.1)."""
    bits = _number(0) + _number(0) + _number(2) + _number(references) + "0"
    bits += _number(-(-width // 16) - 1) + _number(-(-height // 16) - 1) + "1" + "0" + "0" + "0" + "1"
    bits += "0" * (-len(bits) % 8)
    return bytes([66, 0, 51]) + int(bits, 2).to_bytes(len(bits) // 8, "big")


def _number(value: int) -> str:
    """Exp-Golomb (9.1)."""
    bits = f"{value + 1:b}"
    return "0" * (len(bits) - 1) + bits
