"""An MP4 file of H.264 from JPEG pictures, as browsers play it: made in memory, its index in front."""

import os
from collections.abc import Iterable
from fractions import Fraction
from typing import TYPE_CHECKING

from spillover.common.errors import InvalidInputError

if TYPE_CHECKING:
    from av import VideoStream
    from av.container import OutputContainer

CRF = 26
"""x264's constant rate factor, at which a clip shows what its pictures show."""
_TIME_BASE = Fraction(1, 1000)
_X264 = "rc-lookahead=0:sync-lookahead=0:ref=1"
"""Pictures that x264 keeps are memory: 16 MB less at 768x576."""
_RATE = 10
"""x264 reckons its quality with about so many pictures a second."""
_KEY_MS = 2000
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
    stream, last, next_key = None, -1, 0
    for at_s, jpeg in pictures:
        for frame in decoder.decode(av.Packet(jpeg)):
            if stream is None:
                stream = _stream(container, frame.width // 2 * 2, frame.height // 2 * 2)
            size = stream.width, stream.height
            picture = frame.reformat(*size, "yuv420p", src_color_range="JPEG", dst_color_range="MPEG")
            before, last = last, max(last + 1, round(at_s / _TIME_BASE))
            # The last picture is shown as long as the one before it; players pass over one without a time.
            picture.pts, picture.duration, picture.time_base = last, max(1, last - before), _TIME_BASE
            if last >= next_key:
                picture.pict_type, next_key = PictureType.I, last + _KEY_MS
            else:
                picture.pict_type = PictureType.NONE
            container.mux(stream.encode(picture))
    if stream is None:
        raise InvalidInputError("no clip can be made of no picture")
    container.mux(stream.encode(None))


def _stream(container: "OutputContainer", width: int, height: int) -> "VideoStream":
    from av.codec.context import Flags

    stream = container.add_stream("libx264", rate=_RATE)
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    codec = stream.codec_context
    codec.time_base = _TIME_BASE
    codec.thread_count = 1
    codec.flags |= Flags.frame_duration
    codec.options = {"preset": "veryfast", "crf": str(CRF), "bf": "0", "g": "9999", "x264-params": _X264}
    return stream
