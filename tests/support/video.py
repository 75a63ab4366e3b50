"""Pictures of a scene that moves, an observer of streams, and the server's end of a stream of video."""

import gc

import cv2
import numpy as np

from spillover.cloud.serving.streams.losses import LostError
from spillover.cloud.serving.streams.video import VideoStream
from spillover.common.types import Image
from spillover.common.video.h264 import Encoder
from spillover.common.video.planes import Planes
from spillover.common.wire.conversion import Video
from spillover.edge.payload.streams import KeyCause
from spillover.edge.payload.types import EncodedVideo


def scene(number: int, width: int = 96, height: int = 64) -> Image:
    """Frame `number`: two soft shapes that move over a ground with some structure."""
    rows, columns = np.mgrid[0:height, 0:width]
    ground = (96 + 30 * np.sin(columns / 7) + 30 * np.cos(rows / 5)).astype(np.uint8)
    image = cv2.merge([ground, ground[::-1], ground[:, ::-1]])
    cv2.circle(image, (10 + 3 * number % (width - 20), height // 2), height // 6, (30, 60, 220), -1)
    cv2.circle(image, (width - 10 - 2 * number % (width - 20), height // 3), height // 8, (220, 200, 40), -1)
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 1.0), np.uint8)


def held_codecs() -> int:
    """How many encoders of this process are not freed."""
    gc.collect()
    return sum(isinstance(one, Encoder) for one in gc.get_objects())


class CountedStreams:
    """A `StreamObserver` that keeps what it gets."""

    def __init__(self) -> None:
        self.keys: list[KeyCause] = []
        self.failed = 0

    def stream_key(self, kind: str, cause: KeyCause) -> None:
        """Keep it."""
        assert kind == "video"
        self.keys.append(cause)

    def stream_failed(self, kind: str) -> None:
        """Count it."""
        assert kind == "video"
        self.failed += 1


class Receiver:
    """A server's end of one stream; what it does not hold is lost to it."""

    def __init__(self) -> None:
        self._stream = VideoStream()

    def takes(self, video: EncodedVideo) -> Planes | None:
        """The planes of this payload's picture, by the digest those of the sender; None: it needs a key."""
        received = Video(video.position, video.packets, video.width, video.height)
        try:
            return self._stream.decode(received).planes
        except LostError as error:
            if error.loss.is_final:  # the two sides have not the same picture
                raise
            return None
