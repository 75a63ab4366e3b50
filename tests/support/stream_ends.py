"""The two ends of streams without a network between them: an edge's encoder, and what a server keeps."""

import random
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache

from spillover.common.metrics import Registry

from spillover.cloud.models.vision import Undecoded, Vision
from spillover.cloud.serving.admission import Call
from spillover.cloud.serving.streams.streams import Streams
from spillover.cloud.serving.streams.video import VideoStream
from spillover.cloud.telemetry.metrics import StreamMetrics
from spillover.common.coding import StreamPosition
from spillover.common.errors import StreamRefusedError
from spillover.common.model.pictures import Prepared
from spillover.common.types import Image
from spillover.common.wire.conversion import InferenceRequest, Video, request_from_pb, request_to_pb
from spillover.edge.config import UplinkConfig, VideoConfig
from spillover.edge.payload.streams import KeyCause
from spillover.edge.payload.types import EncodedVideo
from spillover.edge.payload.video import LEAST_BYTES, MOST_PACKETS, VideoStreams
from tests.attack.h264 import SIDE, key

CAMERA = "cam"
_ROOM = 8
_DEVICE = Call(holder="dev", device="dev", is_proven=True)
_OTHERS = tuple(Call(holder=f"other{number}", device=f"other{number}", is_proven=True) for number in range(4))


class Edge:
    """What one daemon sends: the stream of its camera. `keys` counts them by cause."""

    most_packets = MOST_PACKETS + 1
    limit_bytes = LEAST_BYTES + 2_000

    def __init__(self, clock: Callable[[], float], seed: int) -> None:
        self.keys: Counter[KeyCause] = Counter()
        config = UplinkConfig(video=VideoConfig(longest_side=SIDE, crf=15))
        self.streams = VideoStreams(config, 1, self, clock, random.Random(seed).random)

    @property
    def kept_bytes(self) -> int:
        """What would be sent again."""
        return sum(stream.behind_bytes for stream in self.streams._streams.all())

    def stream_key(self, form: str, cause: KeyCause) -> None:
        """Count it."""
        del form
        self.keys[cause] += 1

    def stream_failed(self, form: str) -> None:
        """No frame of these tests is one that a codec may refuse."""
        del form
        raise AssertionError("the codec failed")


class Server:
    """What one server keeps: room for eight tiny streams, of which one caller may have a quarter."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.limit_bytes = _ROOM * VideoStream.bytes_of(SIDE, SIDE)
        metrics = StreamMetrics(Registry(), lambda *_: None)
        self._streams = Streams(self.limit_bytes, "", metrics, clock)
        self._begun = 0

    @property
    def used_bytes(self) -> int:
        """What streams are charged for."""
        return self._streams._table.used  # only a metric asks for it

    def opened(self, payload: EncodedVideo) -> "Opened":
        """A call of the device, not decoded yet.

        Raises:
            ReferenceLostError, StreamRefusedError: as the server's.
            InvalidInputError: it is no payload of a stream at all.
        """
        video = Video(payload.position, payload.packets, payload.width, payload.height)
        received = request_from_pb(request_to_pb(InferenceRequest(video=video))).video
        assert received is not None
        return self._opened(received, _DEVICE)

    def crowd(self) -> None:
        """Other callers begin streams until none of them may begin another."""
        sender = _crowds_key()
        for call in _OTHERS:
            for _ in range(_ROOM):
                self._begun += 1
                position = StreamPosition(self._begun.to_bytes(8, "big"), 1, 0, sender[1])
                try:
                    self._opened(Video(position, (sender[0],), SIDE, SIDE), call).decoded()
                except StreamRefusedError:
                    break

    def _opened(self, video: Video, call: Call) -> "Opened":
        return Opened(self._streams, video, call)


class Opened:
    """A call that has come in, and keeps its stream until it is decoded or closed."""

    def __init__(self, streams: Streams, video: Video, call: Call) -> None:
        self._seen = _Seen()
        self._stack = ExitStack()
        self._undecoded: Undecoded = self._stack.enter_context(streams.looking(video, call, self._seen))

    def decoded(self) -> Image:
        """The picture that the network would see. Raises ReferenceLostError."""
        with self._stack:
            self._undecoded.prepare()
        [picture] = self._seen.pictures
        return picture

    def close(self) -> None:
        """The call ends before it is decoded."""
        self._stack.close()


class _Seen(Vision):
    """Keeps what the network would see."""

    def __init__(self) -> None:
        self._max_pixels = 16 * SIDE * SIDE
        self.pictures: list[Image] = []

    def prepare_picture(self, image: Image) -> Prepared:
        """Keep it."""
        self.pictures.append(image)
        return (), ()


@cache
def _crowds_key() -> tuple[bytes, int]:
    sender = key()
    return sender.packets[0], sender.digest
