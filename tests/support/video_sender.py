"""A sender of video that knows what it has sent: keys, payloads behind any reference, their digests."""

import os

import numpy as np

from spillover.common.coding import STREAM_ID_BYTES, StreamPosition
from spillover.common.types import Image
from spillover.common.video.h264 import Decoder, Encoder
from spillover.common.video.planes import digest_of_planes, picture_of
from spillover.common.wire.conversion import InferenceRequest, Video, request_to_pb
from spillover.common.wire.pb import spillover_pb2 as pb

WIDTH, HEIGHT = 64, 48
COLOURS = ((0, 0, 255), (0, 255, 0), (255, 0, 0))


def coloured(number: int, width: int = WIDTH, height: int = HEIGHT) -> Image:
    """A picture of one of three colours, with some noise so that no two are alike."""
    noise = np.random.default_rng(number).integers(0, 24, (height, width, 3))
    return np.clip(np.array(COLOURS[number % 3]) + noise - 12, 0, 255).astype(np.uint8)


class VideoSender:
    """Encodes pictures of one size, number by number, and keeps what each became."""

    def __init__(self, width: int = WIDTH, height: int = HEIGHT) -> None:
        self.stream_id = os.urandom(STREAM_ID_BYTES)
        self.sides = width, height
        self.number = 0
        self.keys: list[int] = []
        self.packets: dict[int, bytes] = {}
        self.digests: dict[int, int] = {}
        self.pictures: dict[int, Image] = {}
        self._encoder = Encoder(width, height, 28)
        self._decoder = Decoder(width, height)

    def add(self, image: Image | None = None, *, key: bool = False) -> int:
        """Encode the next picture; gives its number."""
        key = key or not self.number
        self.number += 1
        number = self.number
        if key:
            self.keys.append(number)
            self._decoder = Decoder(*self.sides)
        picture = coloured(number, *self.sides) if image is None else image
        self.packets[number] = self._encoder.encode(picture, key=key)
        planes = self._decoder.decode(self.packets[number])
        self.digests[number] = digest_of_planes(planes)
        self.pictures[number] = picture_of(planes)
        return number

    def video(self, number: int, reference: int = 0) -> Video:
        """The payload of a number, behind `reference`, or from its key on."""
        first = reference + 1 if reference else max(key for key in self.keys if key <= number)
        position = StreamPosition(self.stream_id, number, reference, self.digests[number])
        packets = tuple(self.packets[one] for one in range(first, number + 1))
        return Video(position, packets, *self.sides)


def video_request(video: Video, model: str = "", device: str = "dev", **fields: object) -> pb.InferRequest:
    """A request with video."""
    return request_to_pb(
        InferenceRequest(video=video, frame_id="f1", model_name=model, device_id=device, **fields)  # type: ignore[arg-type]
    )
