"""Encodes a frame in the form in which it is sent, now or later from the spool."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Protocol

from spillover.common.errors import InvalidInputError
from spillover.common.images import EncodedImage, encode_jpeg, middle_square
from spillover.common.types import Frame, Image
from spillover.edge.config import PayloadKind, PictureVariant, UplinkConfig, UplinkProtocol
from spillover.edge.payload.streams import KeyCause, Outlook
from spillover.edge.payload.types import EncodedFeatures, EncodedFrame, Payload, alone_of

PICTURE = "picture"
VIDEO = "video"
TENSOR = "tensor"
"""Names of the forms that are not a cut's features."""


class Encoder(Protocol):
    """Encodes a frame in one form."""

    def encode(self, image: Image) -> Payload:
        """Encode a BGR picture (H, W, 3)."""
        ...


class StreamEncoder(Protocol):
    """Encodes the frames of each camera against what the server has acknowledged. Thread-safe."""

    def outlook(self, camera_id: str) -> Outlook | None:
        """What the next frame of this camera will be; None: it cannot be encoded in its stream now."""
        ...

    def paused(self) -> Mapping[str, KeyCause]:
        """The cameras of which nothing can be encoded in a stream now, and why."""
        ...

    def encode(self, camera_id: str, image: Image) -> Payload | None:
        """Encode a BGR picture (H, W, 3), as a key where nothing is acknowledged; None: not in a stream now.

        Raises:
            InvalidInputError: the picture cannot be encoded.
            ModelError: the head of a cut failed.
        """
        ...

    def acknowledged(self, payload: Payload) -> None:
        """Note that the server has answered to this payload, so it holds what was decoded of it."""
        ...

    def lost(self, payload: Payload) -> None:
        """Note that the server does not hold this payload's reference."""
        ...

    def refused(self, payload: Payload) -> None:
        """Note that the server begins no stream now."""
        ...

    def too_large(self, payload: Payload) -> bool:
        """Note that the byte budget can never pay for this payload; tell whether another might be smaller."""
        ...

    def ended(self, camera_id: str) -> None:
        """Let go of what is held for this camera, of which nothing comes any more."""
        ...


class StreamObserver(Protocol):
    """Counts what happens to streams; no method may block."""

    def stream_key(self, kind: str, cause: KeyCause) -> None:
        """Count a key of `video` or `features`, and why it is one."""
        ...

    def stream_failed(self, kind: str) -> None:
        """Count a frame that the codec did not take, and that goes without a stream."""
        ...


NO_ENCODERS: Mapping[str, Encoder] = MappingProxyType({})
NO_STREAMS: Mapping[str, StreamEncoder] = MappingProxyType({})


class PayloadEncoder:
    """Encodes frames as the configuration says. Thread-safe.

    `encoders` maps the name of each cut to its head, or holds the one tensor encoder; `streams` has what
    codes a form against what was sent before. With payload `features_only` every frame is encoded as
    features, whichever form is requested.
    """

    def __init__(
        self,
        config: UplinkConfig,
        boot_id: str,
        encoders: Mapping[str, Encoder] = NO_ENCODERS,
        streams: Mapping[str, StreamEncoder] = NO_STREAMS,
    ) -> None:
        self._config = config
        self._boot_id = boot_id
        self._encoders = encoders
        self._streams = streams
        prefers_picture = config.payload in {PayloadKind.PICTURE, PayloadKind.AUTO, PayloadKind.VIDEO}
        if VIDEO in streams:
            self._usual = VIDEO
        elif config.protocol is UplinkProtocol.SPILLOVER and prefers_picture:
            self._usual = PICTURE
        else:
            self._usual = next(iter(encoders))
        self._variants = {PICTURE: usual_variant(config)} | {
            variant.name: variant for variant in config.variants or ()
        }

    @property
    def pictures_allowed(self) -> bool:
        """Whether pixels may leave the device."""
        return self._config.payload is not PayloadKind.FEATURES_ONLY

    def check_may_leave(self, encoded_frame: EncodedFrame) -> None:
        """Raises InvalidInputError for a picture where pixels may not leave the device.

        Such a picture was spooled under an earlier configuration.
        """
        if not self.pictures_allowed and not isinstance(encoded_frame.payload, EncodedFeatures):
            raise InvalidInputError("a picture may not leave this device: uplink.payload is features_only")

    def pack(self, frame: Frame, option: str = "") -> EncodedFrame:
        """Encode in the form `option`, or in the usual form if it is empty; takes milliseconds.

        Raises:
            InvalidInputError: the frame cannot be encoded.
            ModelError: the head of a cut failed.
        """
        option = option or self._usual
        if option not in self._encoders and not self.pictures_allowed:
            option = self._usual
        stream = self._streams.get(option)
        if stream and (payload := stream.encode(frame.camera_id, frame.image)) is not None:
            return self._framed(frame, payload, option)
        return self._alone(frame, option)

    def pack_to_wait(self, frame: Frame) -> EncodedFrame:
        """Encode for the spool: as `pack`, but in no stream, and a picture instead of the larger tensor."""
        return self._alone(frame, PICTURE if self._usual == TENSOR else self._usual)

    def acknowledged(self, encoded_frame: EncodedFrame) -> None:
        """Note that the server has answered to this frame."""
        if stream := self._streams.get(encoded_frame.option):
            stream.acknowledged(encoded_frame.payload)

    def lost(self, encoded_frame: EncodedFrame) -> None:
        """Note that the server does not hold what this frame was coded against."""
        if stream := self._streams.get(encoded_frame.option):
            stream.lost(encoded_frame.payload)

    def refused(self, encoded_frame: EncodedFrame) -> None:
        """Note that the server begins no stream now."""
        if stream := self._streams.get(encoded_frame.option):
            stream.refused(encoded_frame.payload)

    def too_large(self, encoded_frame: EncodedFrame) -> bool:
        """Note that the byte budget can never pay for this frame; tell whether to encode it once more."""
        stream = self._streams.get(encoded_frame.option)
        return stream is not None and stream.too_large(encoded_frame.payload)

    def ended(self, camera_id: str) -> None:
        """Let go of what is held for this camera, of which nothing comes any more."""
        for stream in self._streams.values():
            stream.ended(camera_id)

    def _alone(self, frame: Frame, option: str) -> EncodedFrame:
        """The frame coded against nothing; of what is only a stream, as the usual picture."""
        if option not in self._variants and option not in self._encoders:
            option = PICTURE
        if variant := self._variants.get(option):
            return self._framed(frame, encode_variant(frame.image, variant), option)
        return self._framed(frame, self._encoders[option].encode(frame.image), option)

    def _framed(self, frame: Frame, payload: Payload, option: str) -> EncodedFrame:
        return EncodedFrame(
            frame_id=frame.frame_id,
            camera_id=frame.camera_id,
            boot_id=self._boot_id,
            sequence=frame.sequence,
            captured_unix_s=frame.captured_unix_s,
            payload=payload,
            option=option,
            hidden=frame.hidden,
        )


def encode_variant(image: Image, variant: PictureVariant) -> EncodedImage:
    """The picture in the form of this variant."""
    part = middle_square(image) if variant.square else None
    return encode_jpeg(image, variant.jpeg_quality, variant.longest_side, part)


def usual_variant(config: UplinkConfig) -> PictureVariant:
    """The picture variant that is sent unless the policy chooses a smaller one."""
    return PictureVariant(jpeg_quality=config.jpeg_quality, longest_side=config.longest_side)


def as_it_waits(encoded_frame: EncodedFrame) -> EncodedFrame:
    """An unsent frame in the form in which it is spooled: a tensor becomes a picture, as does a stream's."""
    alone = alone_of(encoded_frame.payload)
    if alone is None:
        return encoded_frame
    payload = alone()
    option = PICTURE if isinstance(payload, EncodedImage) else encoded_frame.option
    return replace(encoded_frame, payload=payload, option=option)
