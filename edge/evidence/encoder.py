"""The process that makes one clip: pictures in, an MP4 out; `python -m spillover.edge.evidence.encoder`.

It gives way to everything, has the memory that PyAV takes, and is the first that a full memory ends. On
standard input each picture is a `HEAD`, seconds since the first one and length, and its JPEG.
"""

import os
import struct
import sys
from collections.abc import Iterator
from typing import BinaryIO

from spillover.common.errors import InvalidInputError
from spillover.common.processes import be_dispensable
from spillover.common.video.mp4 import clip_of

HEAD = struct.Struct("<dI")
_NICE = 15
_DISPENSABLE = 800
"""Of 1000."""


def _pictures(stream: BinaryIO) -> Iterator[tuple[float, bytes]]:
    while len(head := stream.read(HEAD.size)) == HEAD.size:
        at_s, length = HEAD.unpack(head)
        yield at_s, stream.read(length)


def main() -> int:
    """Make the clip; 1 where that cannot be, with the reason on standard error."""
    os.nice(_NICE)
    be_dispensable(_DISPENSABLE)
    try:
        sys.stdout.buffer.write(clip_of(_pictures(sys.stdin.buffer)))
    except InvalidInputError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
