"""H.264 by PyAV: an encoder of single pictures as they come, and the decoder of what it makes.

The bitstream is ITU-T H.264, Annex B, without B frames and without look-ahead: each picture gives one packet
at once, and each packet one picture. A decoder that misses a packet shows no error and drifts; who uses it
counts packets and compares digests (`common.coding`).
"""

from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from spillover.common.errors import ConfigError, InvalidInputError
from spillover.common.extras import missing_extra
from spillover.common.types import Image
from spillover.common.video.planes import Planes, planes_of

if TYPE_CHECKING:
    from av import VideoCodecContext

_CODING_BLOCK = 64
"""FFmpeg pads sides before it compares them with the bound on pixels; none is padded beyond this."""
_TIME_BASE = Fraction(1, 25)
"""x264 reckons its rate factor with the time between pictures, whenever they come: at 25 a second it is what
people know, and pictures keep the quality of their key; with shorter steps it falls by several dB."""
_X264 = "keyint=infinite:scenecut=0:bframes=0:ref=1:rc-lookahead=0:sync-lookahead=0"


def load_codec() -> None:
    """Import PyAV, which takes 18 MB. Raises ConfigError where it is not installed, or cannot be loaded."""
    try:
        import av  # noqa: F401
    except ModuleNotFoundError as error:
        raise missing_extra(error, "video", "payload video") from error
    except ImportError as error:  # FFmpeg or what it links to
        text = f"payload video needs PyAV, which is installed but cannot be loaded ({error})"
        raise ConfigError(f"{text}: install it again, pip install --force-reinstall --no-deps av") from error


class Encoder:
    """Encodes pictures of one size, each against the one before it. For one thread at a time.

    `crf` is x264's constant rate factor: 0 lossless, 51 worst; 28 is about JPEG quality 70 to a detector.

    Raises:
        InvalidInputError: this FFmpeg has no x264.
    """

    def __init__(self, width: int, height: int, crf: int) -> None:
        import av

        try:
            codec = av.CodecContext.create("libx264", "w")
        except ValueError as error:
            raise InvalidInputError(f"the FFmpeg of this PyAV has no codec {error}") from error
        codec.width, codec.height, codec.pix_fmt = width, height, "yuv420p"
        codec.time_base = _TIME_BASE
        codec.thread_count = 1
        codec.options = {
            "preset": "veryfast",
            "tune": "zerolatency",
            "crf": str(crf),
            "x264-params": _X264,
        }
        self._codec: VideoCodecContext = codec
        self._made = 0

    def encode(self, image: Image, *, key: bool) -> bytes:
        """One packet of a BGR picture (H, W, 3) uint8 of the encoder's size; the first one is a key anyway.

        Raises:
            InvalidInputError: the codec does not open, or does not take the picture.
        """
        import av
        from av.video.frame import PictureType

        frame = av.VideoFrame.from_ndarray(planes_of(image), format="yuv420p")
        frame.pts = self._made
        frame.pict_type = PictureType.I if key else PictureType.NONE
        try:
            packets = self._codec.encode(frame)
        except (av.FFmpegError, ValueError) as error:
            raise InvalidInputError(
                f"H.264 cannot encode a picture of shape {image.shape}: {error}"
            ) from error
        if len(packets) != 1:
            raise InvalidInputError(f"H.264 made {len(packets)} packets of one picture")
        self._made += 1
        return bytes(packets[0])


class Decoder:
    """Decodes the packets of one stream in order, on one thread at a time.

    What it takes is bounded by `width` and `height`, whatever the packets say.

    Raises:
        InvalidInputError: this FFmpeg has no H.264.
    """

    def __init__(self, width: int, height: int) -> None:
        import av

        try:
            codec = av.CodecContext.create("h264", "r")
        except ValueError as error:
            raise InvalidInputError(f"the FFmpeg of this PyAV has no codec {error}") from error
        codec.thread_count = 1
        codec.options = {"max_pixels": str(padded_pixels(width, height))}
        codec.flags |= av.codec.context.Flags.low_delay
        self._codec: VideoCodecContext = codec
        self._shape = (height * 3 // 2, width)

    def decode(self, packet: bytes) -> Planes:
        """The picture of the next packet, as planes.

        Raises:
            InvalidInputError: it is damaged, is not one picture, or is of another size or format.
        """
        import av

        if not packet:  # to FFmpeg it would be the end of the stream
            raise InvalidInputError("a packet of H.264 is empty")
        try:
            frames = self._codec.decode(av.Packet(packet))
        except (av.FFmpegError, ValueError) as error:
            raise InvalidInputError(f"H.264 is damaged: {error}") from error
        if len(frames) != 1 or frames[0].format.name not in {"yuv420p", "yuvj420p"}:
            kinds = [frame.format.name for frame in frames]
            raise InvalidInputError(f"a packet of H.264 holds {kinds}, not one picture yuv420p")
        planes = frames[0].to_ndarray()
        if planes.shape != self._shape:
            raise InvalidInputError(
                f"H.264 has planes of shape {planes.shape}, not {self._shape} as was said"
            )
        return planes.astype(np.uint8, copy=False)


def padded_pixels(width: int, height: int) -> int:
    """How many pixels a decoder keeps of a picture of these sides, at most."""
    return -(-width // _CODING_BLOCK) * -(-height // _CODING_BLOCK) * _CODING_BLOCK**2
