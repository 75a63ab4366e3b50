"""Frames as H.264: of each camera a stream, in which a frame is coded against one that the server has.

The encoder chains each picture to the one before it, so a payload carries every packet behind the reference.
The decoder beside it tells what the server must have after decoding them.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import cv2
import numpy as np

from spillover.common.coding import StreamPosition
from spillover.common.errors import InvalidInputError
from spillover.common.geometry import FrameTransform
from spillover.common.images import decode_jpeg, encode_jpeg
from spillover.common.log import get_logger
from spillover.common.types import Image
from spillover.common.video.h264 import Decoder, Encoder, load_codec
from spillover.common.video.planes import Planes, digest_of_planes, planes_of
from spillover.edge.config import UplinkConfig
from spillover.edge.payload.camera_streams import CameraStreams, Stream, draw
from spillover.edge.payload.encoder import VIDEO, StreamObserver
from spillover.edge.payload.rate_factor import AS_JPEG, START, RateFactor
from spillover.edge.payload.streams import Bounds, KeyCause, Outlook, Sender
from spillover.edge.payload.types import EncodedVideo, Payload

_log = get_logger("uplink")

MOST_PACKETS = 30
"""Packets of one payload; behind more of them a key is due."""
MOST_KEYS, LEAST_BYTES = 2, 8_000
"""A key is due once what is behind the reference has the size of so many keys, and at least so many bytes."""


@dataclass(slots=True, eq=False)
class Codec:
    """Encoder and decoder of pictures of one size."""

    width: int
    height: int
    crf: int
    encoder: Encoder = field(init=False)
    decoder: Decoder = field(init=False)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.width, self.height

    def __post_init__(self) -> None:
        self.encoder = Encoder(self.width, self.height, self.crf)
        self.decoder = Decoder(self.width, self.height)

    def code(self, image: Image, *, key: bool) -> tuple[bytes, Planes]:
        """The packet of the next picture, and what is decoded of it.

        Raises:
            InvalidInputError: the codec does not take it.
        """
        packet = self.encoder.encode(image, key=key)
        return packet, self.decoder.decode(packet)


@dataclass(slots=True, eq=False)
class _Stream(Stream):
    """The stream of one camera. `coding` is held while a frame is coded, by the one thread that does.

    Its codec takes 5 MB.
    """

    behind: deque[tuple[int, bytes]] = field(default_factory=deque)
    """Number and packet of what is behind the reference."""
    coding: threading.Lock = field(default_factory=threading.Lock)
    codec: Codec | None = None
    rate_factor: RateFactor = field(default_factory=RateFactor)
    """Stays as it is where the configuration names one."""

    @property
    def behind_bytes(self) -> int:
        """Size of what would be sent again."""
        return sum(len(packet) for _, packet in self.behind)

    def moved(self, sender: Sender) -> None:
        """Go on with `sender`, and let go of what is not behind its reference any more."""
        self.sender = sender
        while self.behind and (not sender.key or self.behind[0][0] <= sender.reference):
            self.behind.popleft()


class VideoStreams:
    """A `StreamEncoder` for H.264. Thread-safe; answers are noted without waiting for a frame being coded.

    A codec that fails is left alone for about a minute, in which its camera's frames go as pictures.
    `most_cameras` bounds the memory: of more cameras the one that has been silent the longest is let go.
    """

    def __init__(
        self,
        config: UplinkConfig,
        most_cameras: int,
        observer: StreamObserver,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = draw,
    ) -> None:
        self._config = config
        self._observer = observer
        self._streams = CameraStreams(_begun, most_cameras, clock, draw)
        """Never locked while a frame is coded."""
        self._fails = False

    def outlook(self, camera_id: str) -> Outlook | None:
        """What the next frame of this camera will be; None while its stream pauses."""
        with self._streams.lock:
            if (stream := self._streams.found(camera_id)) is None:
                return Outlook()
            if not stream.sender.may_send(self._streams.clock()):
                return None
            size = stream.behind_bytes
            is_key = stream.sender.key_cause(size) is not None
            return Outlook(is_key, 0 if is_key else size)

    def paused(self) -> dict[str, KeyCause]:
        """The cameras whose frames go as pictures now, and why."""
        return self._streams.paused()

    def rate_factors(self) -> dict[str, int]:
        """The rate factor that each camera with a stream has found, where none is configured."""
        return {camera_id: stream.rate_factor.crf for camera_id, stream in self._streams.by_camera()}

    def encode(self, camera_id: str, image: Image) -> EncodedVideo | None:
        """A BGR picture (H, W, 3) uint8 as the next one of its camera's stream; None while that pauses."""
        with self._streams.lock:
            stream = self._streams.used(camera_id)
        with stream.coding:
            return self._encode(stream, camera_id, image, self._streams.clock())

    def acknowledged(self, payload: Payload) -> None:
        """The server has answered to this payload."""
        self._streams.heard(payload, lambda stream, at: stream.sender.acknowledged(at.number))

    def lost(self, payload: Payload) -> None:
        """The server does not hold this payload's reference."""
        now_s, draw = self._streams.clock(), self._streams.draw()
        self._streams.heard(payload, lambda stream, at: stream.sender.lost(at.number, now_s, draw))

    def refused(self, payload: Payload) -> None:
        """The server begins no stream now."""
        self._streams.refused(payload)

    def too_large(self, payload: Payload) -> bool:
        """The byte budget can never pay for this payload, but may for a key or a picture."""
        now_s, draw = self._streams.clock(), self._streams.draw()
        self._streams.heard(payload, lambda stream, at: stream.sender.too_large(at.number, now_s, draw))
        return True

    def ended(self, camera_id: str) -> None:
        """Nothing comes of this camera any more."""
        self._streams.ended(camera_id)

    def _encode(self, stream: _Stream, camera_id: str, image: Image, now_s: float) -> EncodedVideo | None:
        small, transform = shrink(image, self._config.video.longest_side)
        height, width = small.shape[:2]
        crf = self._config.video.crf or stream.rate_factor.crf
        other = _cause_of_another(stream.codec, width, height, crf)
        with self._streams.lock:
            if other is not None:
                stream.moved(stream.sender.changed(other))
            if not stream.sender.may_send(now_s):
                return None
            cause = stream.sender.key_cause(stream.behind_bytes)
            if cause is not None:
                stream.behind.clear()
            sender = stream.sender = stream.sender.advanced(now_s, key=cause is not None)
            stream_id, behind = stream.stream_id, tuple(packet for _, packet in stream.behind)
        try:
            if stream.codec is None or other is not None:
                stream.codec = None  # before the next one takes its memory
                stream.codec = Codec(width, height, crf)
            packet, planes = stream.codec.code(small, key=cause is not None)
        except InvalidInputError as error:
            stream.codec = None
            self._failed(stream, camera_id, now_s, error)
            return None
        except BaseException as error:  # such as no memory: the number was taken, and its packet is missing
            stream.codec = None
            self._failed(stream, camera_id, now_s, error)
            raise
        self._fails = False
        self._coded(stream, sender, packet, cause)
        if self._config.video.crf is None and cause is None:
            self._compare(stream, camera_id, small, planes)
        return EncodedVideo(
            packets=(*behind, packet),
            position=StreamPosition(stream_id, sender.newest, sender.reference, digest_of_planes(planes)),
            width=width,
            height=height,
            transform=transform,
            alone=partial(encode_jpeg, image, self._config.jpeg_quality, self._config.longest_side),
        )

    def _coded(self, stream: _Stream, sender: Sender, packet: bytes, cause: KeyCause | None) -> None:
        """Keep the packet until the server has it, unless its chain has been lost meanwhile."""
        with self._streams.lock:
            if stream.sender.key != sender.key:
                return
            stream.behind.append((sender.newest, packet))
            if cause is not None:
                bounds = Bounds(MOST_PACKETS, max(LEAST_BYTES, MOST_KEYS * len(packet)))
                stream.sender = replace(stream.sender, bounds=bounds)
        if cause is not None:
            self._observer.stream_key(VIDEO, cause)

    def _compare(self, stream: _Stream, camera_id: str, small: Image, planes: Planes) -> None:
        """Whether this camera needs another rate factor, which then is that of its next frame."""
        before = stream.rate_factor
        if not before.is_watching:
            stream.rate_factor = before.passed()
            return
        stream.rate_factor = before.compared(*errors(small, planes))
        if (crf := stream.rate_factor.crf) == before.crf:
            return
        with self._streams.lock:
            stream.moved(stream.sender.changed(KeyCause.QUALITY))
        _log.info("video has another rate factor", camera=camera_id, crf=crf, was=before.crf)

    def _failed(self, stream: _Stream, camera_id: str, now_s: float, error: BaseException) -> None:
        with self._streams.lock:
            stream.moved(stream.sender.failed(now_s, self._streams.draw()))
        self._observer.stream_failed(VIDEO)
        if not self._fails:
            _log.warning("video cannot be coded, JPEG goes in its place", camera=camera_id, error=str(error))
        self._fails = True


def _begun(stream_id: bytes) -> _Stream:
    return _Stream(stream_id, Sender(Bounds(MOST_PACKETS, LEAST_BYTES)))


def _cause_of_another(codec: Codec | None, width: int, height: int, crf: int) -> KeyCause | None:
    """Why this codec is not the one for the next picture; None: it is, or there is none."""
    if codec is None or (codec.size == (width, height) and codec.crf == crf):
        return None
    return KeyCause.QUALITY if codec.size == (width, height) else KeyCause.CHANGED


def errors(image: Image, planes: Planes) -> tuple[float, float]:
    """Mean squared error of the luma of `planes`, and that of a JPEG, of a BGR picture (H, W, 3) uint8."""
    height = len(image)
    luma = planes_of(image)[:height]
    jpeg = decode_jpeg(encode_jpeg(image, AS_JPEG).data, image.size)
    video_error, jpeg_error = (
        cv2.norm(luma, other[:height], cv2.NORM_L2SQR) / luma.size for other in (planes, planes_of(jpeg))
    )
    return video_error, jpeg_error


def shrink(image: Image, longest_side: int) -> tuple[Image, FrameTransform]:
    """A BGR picture (H, W, 3) uint8 of at most `longest_side` pixels a side, both even; never enlarged.

    A side of one pixel becomes two.
    """
    height, width = image.shape[:2]
    scale = min(1.0, longest_side / max(height, width))
    size = (_even(width * scale), _even(height * scale))
    if size != (width, height):
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    return image, FrameTransform.resize((width, height), size)


def _even(side: float) -> int:
    return max(2, int(side + 0.5) // 2 * 2)


def check_codec(config: UplinkConfig) -> None:
    """Code one picture, and let go of what it took.

    Raises:
        ConfigError: PyAV is not installed; the text has the command that installs it.
        InvalidInputError: its FFmpeg has no H.264 that works.
    """
    load_codec()
    side = config.video.longest_side // 2 * 2
    Codec(side, side, config.video.crf or START).code(np.zeros((side, side, 3), np.uint8), key=True)
