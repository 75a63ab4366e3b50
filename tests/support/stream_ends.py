"""The two ends of streams without a network between them: an edge's encoder, and what a server keeps."""

import random
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from spillover.cloud.models.tails import TailAdapter
from spillover.cloud.models.vision import Undecoded, Vision
from spillover.cloud.serving.admission import Call
from spillover.cloud.serving.streams.features import FeatureStream
from spillover.cloud.serving.streams.streams import Streams
from spillover.cloud.serving.streams.video import VideoStream
from spillover.cloud.telemetry.metrics import StreamMetrics
from spillover.common.coding import StreamPosition
from spillover.common.errors import StreamRefusedError
from spillover.common.features.codec import decode_symbols
from spillover.common.features.quantized import Quantized
from spillover.common.metrics import Registry
from spillover.common.model.pictures import Prepared
from spillover.common.model.session import Model
from spillover.common.types import Image, Tensor
from spillover.common.video.h264 import Decoder
from spillover.common.video.planes import digest_of_planes, picture_of, planes_of
from spillover.common.wire.conversion import (
    Features,
    InferenceRequest,
    Video,
    request_from_pb,
    request_to_pb,
)
from spillover.edge.config import UplinkConfig, VideoConfig
from spillover.edge.payload.encoder import StreamEncoder
from spillover.edge.payload.feature_streams import IN_FLIGHT, FeatureStreams
from spillover.edge.payload.features import FeatureEncoder
from spillover.edge.payload.streams import KeyCause
from spillover.edge.payload.types import EncodedFeatures, EncodedVideo
from spillover.edge.payload.video import LEAST_BYTES, MOST_PACKETS, VideoStreams
from tests.attack.h264 import SIDE

CAMERA = "cam"
AHEAD = 7
"""Payloads by which somebody may get ahead of a stream's sender."""
FORGERIES = ("digest", "reference", "number", "cut", "noise", "stream")
Payload = EncodedVideo | EncodedFeatures
Seen = np.ndarray[tuple[int, ...], np.dtype[np.generic]]
"""What a network is given: a picture, or the symbols of its features."""
_ROOM = 8
_DEVICE = Call(holder="dev", device="dev", is_proven=True)
_OTHERS = tuple(Call(holder=f"other{number}", device=f"other{number}", is_proven=True) for number in range(4))


class Edge:
    """What one daemon sends: the stream of its camera. `keys` counts them by cause."""

    def __init__(self) -> None:
        self.keys: Counter[KeyCause] = Counter()
        self.streams: StreamEncoder
        self.limit_bytes = 0

    @property
    def kept_bytes(self) -> int:
        """What it keeps for the next payload."""
        raise NotImplementedError

    def encode(self, image: Image) -> Payload | None:
        """The next payload; None while the stream pauses."""
        payload = self.streams.encode(CAMERA, image)
        assert payload is None or isinstance(payload, EncodedVideo | EncodedFeatures)
        return payload

    def stream_key(self, form: str, cause: KeyCause) -> None:
        """Count it."""
        del form
        self.keys[cause] += 1

    def stream_failed(self, form: str) -> None:
        """No frame of these tests is one that a codec may refuse."""
        raise AssertionError(f"the codec of {form} failed")


class Opened:
    """A call that has come in, and keeps its stream until it is decoded or closed."""

    def __init__(self, stack: ExitStack, decode: Callable[[], Seen]) -> None:
        self._stack = stack
        self._decode = decode

    def decoded(self) -> Seen:
        """What the network would see. Raises ReferenceLostError."""
        with self._stack:
            return self._decode()

    def close(self) -> None:
        """The call ends before it is decoded."""
        self._stack.close()


class Server:
    """What one server keeps: room for eight streams, of which one caller may have a quarter."""

    def __init__(self, form: "Form", clock: Callable[[], float]) -> None:
        self._form = form
        self.limit_bytes = _ROOM * form.stream_bytes
        metrics = StreamMetrics(Registry(), lambda *_: None)
        self._streams = Streams(self.limit_bytes, True, metrics, clock)
        self._begun = 0

    @property
    def used_bytes(self) -> int:
        """What streams are charged for."""
        return self._streams._table.used  # only a metric asks for it

    def opened(self, payload: Payload, call: Call = _DEVICE) -> Opened:
        """A call, not decoded yet.

        Raises:
            ReferenceLostError, StreamRefusedError: as the server's.
            InvalidInputError: it is no payload of a stream at all.
        """
        stack = ExitStack()
        received = request_from_pb(request_to_pb(_request(payload)))
        return Opened(stack, self._form.opened(self._streams, received, call, stack))

    def crowd(self) -> None:
        """Other callers begin streams until none of them may begin another."""
        for call in _OTHERS:
            for _ in range(_ROOM):
                self._begun += 1
                key = self._form.first_key
                assert key.position is not None
                position = replace(key.position, stream_id=self._begun.to_bytes(8, "big"))
                try:
                    self.opened(replace(key, position=position), call).decoded()
                except StreamRefusedError:
                    break


class Oracle(Protocol):
    """What each stream's sender must have, by decoding all of its payloads in order."""

    by_digest: dict[int, Seen]

    def meant(self, image: Image, payload: Payload) -> Seen:
        """What is decoded of a new payload, which shows what the camera has seen."""
        ...


class Form(Protocol):
    """One coding, at both ends."""

    stream_bytes: int
    most_packets: int
    first_key: Payload

    def edge(self, clock: Callable[[], float], seed: int) -> Edge:
        """A daemon."""
        ...

    def oracle(self) -> Oracle:
        """Who knows what was meant."""
        ...

    def opened(
        self, streams: Streams, request: InferenceRequest, call: Call, stack: ExitStack
    ) -> Callable[[], Seen]:
        """A call at a server, until the stack is closed; what is given decodes it."""
        ...

    def forged(self, payload: Payload, how: str, at: int) -> Payload:
        """A payload with something changed, by who proves to be the same caller and knows the stream."""
        ...


def scene(number: int) -> Image:
    """Picture `number`: noise, of which H.264 makes large packets; no two are alike."""
    noise = np.random.default_rng(number).integers(0, 255, (SIDE // 2, SIDE // 2, 3), np.uint8)
    return cv2.resize(noise, (SIDE, SIDE)).astype(np.uint8, copy=False)


class VideoForm:
    """H.264 of tiny pictures."""

    stream_bytes = VideoStream.bytes_of(SIDE, SIDE)
    most_packets = MOST_PACKETS + 1

    def __init__(self) -> None:
        key = VideoEdge(lambda: 0.0, 0).encode(scene(0))
        assert key is not None
        self.first_key = key

    def edge(self, clock: Callable[[], float], seed: int) -> Edge:
        """A daemon."""
        return VideoEdge(clock, seed)

    def oracle(self) -> Oracle:
        """Who knows what was meant."""
        return _VideoOracle()

    def opened(
        self, streams: Streams, request: InferenceRequest, call: Call, stack: ExitStack
    ) -> Callable[[], Seen]:
        """A call at a server."""
        assert request.video is not None
        eyes = _Eyes()
        undecoded: Undecoded = stack.enter_context(streams.looking(request.video, call, eyes))

        def decode() -> Seen:
            undecoded.prepare()
            return eyes.pictures[-1]

        return decode

    def forged(self, payload: Payload, how: str, at: int) -> Payload:
        """A payload with something changed."""
        assert isinstance(payload, EncodedVideo)
        position, packets = payload.position, payload.packets
        which = at % len(packets)
        match how:
            case "reference":
                position = replace(position, reference=at % position.number)
                count = position.number - position.reference
                packets = (packets[0],) * (count - len(packets)) + packets[-count:]
            case "number":
                number = max(len(packets), position.number + (AHEAD if at % 3 == 2 else -1 - at % 3))
                position = replace(position, number=number, reference=0)
            case "cut" | "noise":
                packets = (*packets[:which], _hurt(packets[which], how, at), *packets[which + 1 :])
            case _:
                position = _other(position, how, at)
        return replace(payload, position=position, packets=packets)


class VideoEdge(Edge):
    """A daemon that sends H.264."""

    def __init__(self, clock: Callable[[], float], seed: int) -> None:
        super().__init__()
        config = UplinkConfig(video=VideoConfig(longest_side=SIDE, crf=15))
        self._video = VideoStreams(config, 1, self, clock, random.Random(seed).random)
        self.streams = self._video
        self.limit_bytes = LEAST_BYTES + 2_000

    @property
    def kept_bytes(self) -> int:
        """What would be sent again."""
        return sum(stream.behind_bytes for stream in self._video._streams.all())


class _VideoOracle:
    _LIKENESS = 8
    """Mean difference between a picture's planes and what H.264 makes of them, at most."""

    def __init__(self) -> None:
        self._decoders: dict[bytes, Decoder] = {}
        self.by_digest: dict[int, Seen] = {}

    def meant(self, image: Image, payload: Payload) -> Seen:
        """The newest packet of each payload, one after the other."""
        assert isinstance(payload, EncodedVideo)
        stream_id = payload.position.stream_id
        decoder = self._decoders.setdefault(stream_id, Decoder(payload.width, payload.height))
        planes = decoder.decode(payload.packets[-1])
        assert digest_of_planes(planes) == payload.position.digest, "the edge says what it does not have"
        difference = np.abs(planes.astype(int) - planes_of(image)).mean()
        assert difference < self._LIKENESS, f"what is sent is not what the camera has seen: {difference}"
        return self.by_digest.setdefault(payload.position.digest, picture_of(planes))


class _Eyes(Vision):
    """Keeps what the network would see."""

    def __init__(self) -> None:
        self._max_pixels = 16 * SIDE * SIDE
        self.pictures: list[Image] = []

    def prepare_picture(self, image: Image) -> Prepared:
        """Keep it."""
        self.pictures.append(image)
        return (), ()


class FeatureForm:
    """Symbols of a cut of the split model in `folder`."""

    most_packets = 1

    def __init__(self, folder: Path, cut: str) -> None:
        self.encoder = FeatureEncoder(folder, cut)
        self.tail = TailAdapter(Model.load(folder), self.encoder.cut)
        self.stream_bytes = FeatureStream.bytes_of(self.tail)
        key = FeatureEdge(self, lambda: 0.0, 0).encode(scene(0))
        assert key is not None
        self.first_key = key

    def edge(self, clock: Callable[[], float], seed: int) -> Edge:
        """A daemon."""
        return FeatureEdge(self, clock, seed)

    def oracle(self) -> Oracle:
        """Who knows what was meant."""
        return _FeatureOracle(self)

    def opened(
        self, streams: Streams, request: InferenceRequest, call: Call, stack: ExitStack
    ) -> Callable[[], Seen]:
        """A call at a server."""
        assert request.features is not None
        looking = streams.looking_at_features(request.features, call, self.tail)
        undecoded: Undecoded = stack.enter_context(looking)
        return lambda: _flat([tensor[0] for tensor in undecoded.prepare()[0]])

    def forged(self, payload: Payload, how: str, at: int) -> Payload:
        """A payload with something changed."""
        assert isinstance(payload, EncodedFeatures)
        position, data = payload.position, payload.data
        assert position is not None
        match how:
            case "reference":
                position = replace(position, reference=at % position.number)
            case "number":
                number = position.number + (AHEAD if at % 3 == 2 else -(at % 3))
                position = replace(position, number=max(position.reference + 1, number))
            case "cut" | "noise":
                data = _hurt(data, how, at)
            case _:
                position = _other(position, how, at)
        return replace(payload, position=position, data=data)


class FeatureEdge(Edge):
    """A daemon that sends features."""

    def __init__(self, form: FeatureForm, clock: Callable[[], float], seed: int) -> None:
        super().__init__()
        inter = form.encoder.cut.inter
        assert inter is not None
        draw = random.Random(seed).random
        self._features = FeatureStreams(form.encoder, inter, 1, self, clock, draw)
        self.streams = self._features
        self.limit_bytes = (IN_FLIGHT + 1) * form.encoder.cut.elements

    @property
    def kept_bytes(self) -> int:
        """Symbols, a byte each."""
        streams = self._features._streams.all()
        return sum(quantized.elements for stream in streams for quantized in stream.symbols.values())


class _FeatureOracle:
    def __init__(self, form: FeatureForm) -> None:
        self._elements = form.encoder.cut.elements
        assert form.encoder.cut.inter is not None
        self._dead_zone = form.encoder.cut.inter.dead_zone
        self._known: dict[tuple[bytes, int], Quantized] = {}
        self.by_digest: dict[int, Seen] = {}

    def meant(self, image: Image, payload: Payload) -> Seen:
        """Symbols against those that the payload names; near to those of the picture alone."""
        del image
        assert isinstance(payload, EncodedFeatures)
        position = payload.position
        assert position is not None
        assert payload.alone is not None
        reference = self._known.get((position.stream_id, position.reference))
        quantized = decode_symbols(payload.data, self._elements, reference)
        alone = decode_symbols(payload.alone().data, self._elements)
        assert quantized.digest() == position.digest, "the edge says what it does not have"
        for kept, fresh in zip(quantized.symbols, alone.symbols, strict=True):
            farthest = np.abs(kept.astype(int) - fresh.astype(int)).max()
            assert farthest <= self._dead_zone + 0.5, "what is sent is not what the camera has seen"
        self._known[position.stream_id, position.number] = quantized
        return self.by_digest.setdefault(position.digest, _flat(quantized.tensors()))


def _flat(tensors: Iterable[Tensor]) -> Seen:
    return np.concatenate([tensor.reshape(-1) for tensor in tensors])


def _request(payload: Payload) -> InferenceRequest:
    if isinstance(payload, EncodedVideo):
        video = Video(payload.position, payload.packets, payload.width, payload.height)
        return InferenceRequest(video=video)
    return InferenceRequest(features=Features(payload.head_sha256, payload.data, payload.position))


def _other(position: StreamPosition, how: str, at: int) -> StreamPosition:
    if how == "digest":
        return replace(position, digest=position.digest ^ (1 << at % 32))
    return replace(position, stream_id=at.to_bytes(8, "big"))


def _hurt(data: bytes, how: str, at: int) -> bytes:
    if how == "cut":
        return data[: 1 + at % len(data)]
    hurt = bytearray(data)
    hurt[at % len(hurt)] ^= 1 + at % 255
    return bytes(hurt)
