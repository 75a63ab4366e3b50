"""An MP4 file of H.264 from JPEG pictures, as browsers play it: made in memory, its index in front."""

import os
from collections.abc import Iterable
from fractions import Fraction
from typing import TYPE_CHECKING

from spillover.common.errors import InvalidInputError

if TYPE_CHECKING:
    from av.container import OutputContainer

CRF = 26
"""x264's constant rate factor, at which a clip shows what its pictures show."""
_TIME_BASE = Fraction(1, 1000)
_KEY_S = 2.0
"""A player can begin at any of these."""


def clip_of(pictures: Iterable[tuple[float, bytes]]) -> bytes:
    """The clip of JPEG pictures, each with its time in seconds since the first one, which grows.

    All are scaled to the size of the first, less a row or column where that is odd (4:2:0 wants even sides).

    Raises:
        InvalidInputError: there is no picture, one cannot be decoded, or this FFmpeg has no x264.
    """
    import av

    with os.fdopen(os.memfd_create("clip"), "rb") as memory:
        path = f"/proc/self/fd/{memory.fileno()}"
        try:
            with av.open(path, "w", format="mp4", options={"movflags": "+faststart"}) as container:
                _encode(container, pictures)
        except (av.FFmpegError, ValueError) as error:
            raise InvalidInputError(f"no clip can be made: {error}") from error
        memory.seek(0)
        return memory.read()


def _encode(container: "OutputContainer", pictures: Iterable[tuple[float, bytes]]) -> None:
    import av
    from av.video.frame import PictureType

    decoder = av.CodecContext.create("mjpeg", "r")
    stream, last, key_s = None, -1, 0.0
    for at_s, jpeg in pictures:
        for frame in decoder.decode(av.Packet(jpeg)):
            if stream is None:
                stream = container.add_stream("libx264", rate=Fraction(25))
                stream.width, stream.height = frame.width // 2 * 2, frame.height // 2 * 2
                stream.pix_fmt = "yuv420p"
                stream.codec_context.time_base = _TIME_BASE
                stream.codec_context.thread_count = 1
                stream.codec_context.options = {"preset": "veryfast", "crf": str(CRF), "bf": "0", "g": "9999"}
            picture = frame.reformat(
                stream.width, stream.height, "yuv420p", src_color_range="JPEG", dst_color_range="MPEG"
            )
            last = max(last + 1, round(at_s / _TIME_BASE))
            picture.pts, picture.time_base = last, _TIME_BASE
            is_key = last * _TIME_BASE >= key_s
            picture.pict_type = PictureType.I if is_key else PictureType.NONE
            key_s = float(last * _TIME_BASE) + _KEY_S if is_key else key_s
            container.mux(stream.encode(picture))
    if stream is None:
        raise InvalidInputError("no clip can be made of no picture")
    container.mux(stream.encode(None))
