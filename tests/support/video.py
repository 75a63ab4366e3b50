"""Pictures of a scene that moves, an observer of streams, and a receiver of video that goes by the rules."""

from collections import deque

import cv2
import numpy as np

from spillover.common.types import Image
from spillover.common.video.h264 import Decoder
from spillover.common.video.planes import Planes, digest_of_planes
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
    """Decodes payloads of one stream; what it does not hold, or has otherwise, is lost to it."""

    def __init__(self) -> None:
        self._decoder: Decoder | None = None
        self._recent: deque[tuple[int, Planes]] = deque(maxlen=8)

    @property
    def newest(self) -> int:
        """Number of the newest picture; 0: there is none."""
        return self._recent[-1][0] if self._recent else 0

    def takes(self, video: EncodedVideo) -> Planes | None:
        """The planes of this payload's picture; None: its reference is lost."""
        position = video.position
        for number, planes in self._recent:
            if number == position.number:
                return self._checked(planes, position.digest)
        first = position.number - len(video.packets) + 1
        if position.is_key and (self._decoder is None or first > self.newest):
            self._decoder = Decoder(video.width, video.height)
            self._recent.clear()
        elif self._decoder is None or first > self.newest + 1 or position.number < self.newest:
            return None
        assert self._decoder is not None
        have = self.newest
        for number, packet in enumerate(video.packets, first):
            if number > have:
                self._recent.append((number, self._decoder.decode(packet)))
        return self._checked(self._recent[-1][1], position.digest)

    def _checked(self, planes: Planes, digest: int) -> Planes:
        assert digest_of_planes(planes) == digest, "the two sides have not the same picture"
        return planes
