"""Features as changes to those that the server has acknowledged: of each camera a stream, for one cut.

Any features that the server has may be the reference, so a lost call costs nothing. The newest ones that it
has acknowledged are taken; those in flight are kept until they are acknowledged, or too old to be taken.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from spillover.common.coding import MOST_NUMBER, StreamPosition
from spillover.common.features.codec import encode_next
from spillover.common.features.quantized import Quantized
from spillover.common.model.split import InterCoding
from spillover.common.types import Image
from spillover.edge.payload.camera_streams import CameraStreams, Stream, draw
from spillover.edge.payload.encoder import StreamObserver
from spillover.edge.payload.features import FeatureEncoder
from spillover.edge.payload.streams import Bounds, KeyCause, Outlook, Sender
from spillover.edge.payload.types import EncodedFeatures, Payload

FEATURES = "features"
"""What the observer is told of."""
IN_FLIGHT = 5
"""Payloads behind the reference of which the symbols are kept; a server keeps one more."""
_BOUNDS = Bounds(MOST_NUMBER, MOST_NUMBER)
"""A reference stays one however much was sent behind it, as nothing of that is sent again."""


@dataclass(slots=True, eq=False)
class _Stream(Stream):
    """The stream of one camera."""

    symbols: OrderedDict[int, Quantized] = field(default_factory=OrderedDict)
    """By number: those of the reference, and of the newest payloads that may become it."""

    @property
    def reference(self) -> Quantized | None:
        """What the next payload is coded against; None: it has to go alone."""
        return self.symbols.get(self.sender.reference)

    def moved(self, sender: Sender) -> None:
        """Go on with `sender`, and let go of what can be no reference any more."""
        self.sender = sender
        oldest = sender.newest - IN_FLIGHT + 1
        for number in list(self.symbols):
            is_next = number > sender.reference and number >= oldest
            if not sender.key or not (number == sender.reference or is_next):
                del self.symbols[number]


class FeatureStreams:
    """A `StreamEncoder` for the features of one cut. Thread-safe; answers never wait for a head.

    `most_cameras` bounds the memory: of more cameras the one that has been silent the longest is let go.
    """

    def __init__(
        self,
        encoder: FeatureEncoder,
        inter: InterCoding,
        most_cameras: int,
        observer: StreamObserver,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = draw,
    ) -> None:
        self._encoder = encoder
        self._dead_zone = inter.dead_zone
        self._observer = observer
        self._streams = CameraStreams(_begun, most_cameras, clock, draw)
        """Never locked while a frame is coded."""

    def outlook(self, camera_id: str) -> Outlook | None:
        """What the next frame of this camera will be; None while its stream pauses."""
        with self._streams.lock:
            if (stream := self._streams.found(camera_id)) is None:
                return Outlook()
            may_send = stream.sender.may_send(self._streams.clock())
            return Outlook(stream.reference is None) if may_send else None

    def paused(self) -> dict[str, KeyCause]:
        """The cameras whose features go alone now, and why."""
        return self._streams.paused()

    def encode(self, camera_id: str, image: Image) -> EncodedFeatures | None:
        """The features of a BGR picture (H, W, 3) uint8, next in its camera's stream; None while that pauses.

        Raises:
            ModelError: the head fails.
            InvalidInputError: a feature is not a number.
        """
        now_s = self._streams.clock()
        with self._streams.lock:
            stream = self._streams.used(camera_id)
            if not stream.sender.may_send(now_s):
                return None
        features, transform = self._encoder.features_of(image)
        with self._streams.lock:
            reference, cause = stream.reference, stream.sender.key_cause()
            sender = stream.sender.advanced(now_s, key=cause is not None)
            stream.moved(sender)
            stream_id = stream.stream_id
        coded = encode_next(features, self._encoder.quantizers, reference, self._dead_zone)
        with self._streams.lock:
            if stream.sender.key == sender.key:
                stream.symbols[sender.newest] = coded.quantized
                stream.moved(stream.sender)
        if cause is not None:
            self._observer.stream_key(FEATURES, cause)
        against = sender.reference if coded.needs_reference else 0
        position = StreamPosition(stream_id, sender.newest, against, coded.quantized.digest())
        head = self._encoder.cut.head_sha256
        return EncodedFeatures(
            coded.data, head, transform, position, lambda: EncodedFeatures(coded.alone, head, transform)
        )

    def acknowledged(self, payload: Payload) -> None:
        """The server has answered to this payload."""
        self._streams.heard(payload, _acknowledged)

    def lost(self, payload: Payload) -> None:
        """The server does not hold this payload's reference; of one that was newer this says nothing."""
        now_s, draw = self._streams.clock(), self._streams.draw()

        def told(stream: _Stream, position: StreamPosition) -> Sender:
            is_old = position.reference < stream.sender.reference
            return stream.sender if is_old else stream.sender.lost(position.number, now_s, draw)

        self._streams.heard(payload, told)

    def refused(self, payload: Payload) -> None:
        """The server begins no stream now."""
        self._streams.refused(payload)

    def too_large(self, payload: Payload) -> bool:
        """The byte budget can never pay for this payload; alone it would be no smaller."""
        del payload
        return False

    def ended(self, camera_id: str) -> None:
        """Nothing comes of this camera any more."""
        self._streams.ended(camera_id)


def _begun(stream_id: bytes) -> _Stream:
    return _Stream(stream_id, Sender(_BOUNDS))


def _acknowledged(stream: _Stream, position: StreamPosition) -> Sender:
    """Symbols that are not kept any more become no reference: the server does not keep them either."""
    number = position.number
    return stream.sender.acknowledged(number) if number in stream.symbols else stream.sender
