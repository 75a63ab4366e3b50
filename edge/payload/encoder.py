"""Encodes a frame in the form in which it is sent, now or later from the spool."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Protocol

from spillover.common.errors import InvalidInputError
from spillover.common.images import EncodedImage, encode_jpeg, middle_square
from spillover.common.types import Frame, Image
from spillover.edge.config import PayloadKind, PictureVariant, UplinkConfig, UplinkProtocol
from spillover.edge.payload.types import EncodedFeatures, EncodedFrame, EncodedTensor, Payload

PICTURE = "picture"
TENSOR = "tensor"
"""Names of the forms that are not a cut's features."""


class Encoder(Protocol):
    """Encodes a frame in one form."""

    def encode(self, image: Image) -> Payload:
        """Encode a BGR picture (H, W, 3)."""
        ...


NO_ENCODERS: Mapping[str, Encoder] = MappingProxyType({})


class PayloadEncoder:
    """Encodes frames as the configuration says. Thread-safe.

    `encoders` maps the name of each cut to its head, or holds the one tensor encoder. With payload
    `features_only` every frame is encoded as features, whichever form is requested.
    """

    def __init__(
        self, config: UplinkConfig, boot_id: str, encoders: Mapping[str, Encoder] = NO_ENCODERS
    ) -> None:
        self._config = config
        self._boot_id = boot_id
        self._encoders = encoders
        takes_pictures = config.protocol is UplinkProtocol.SPILLOVER
        prefers_picture = takes_pictures and config.payload in {PayloadKind.PICTURE, PayloadKind.AUTO}
        self._usual = PICTURE if prefers_picture else next(iter(encoders))
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
        if option in self._variants and not self.pictures_allowed:
            option = self._usual
        variant = self._variants.get(option)
        return EncodedFrame(
            frame_id=frame.frame_id,
            camera_id=frame.camera_id,
            boot_id=self._boot_id,
            sequence=frame.sequence,
            captured_unix_s=frame.captured_unix_s,
            payload=encode_variant(frame.image, variant)
            if variant
            else self._encoders[option].encode(frame.image),
            option=option,
            hidden=frame.hidden,
        )

    def pack_to_wait(self, frame: Frame) -> EncodedFrame:
        """Encode for the spool: as `pack`, but with a picture instead of the much larger tensor."""
        return self.pack(frame, PICTURE if self._usual == TENSOR else "")


def encode_variant(image: Image, variant: PictureVariant) -> EncodedImage:
    """The picture in the form of this variant."""
    part = middle_square(image) if variant.square else None
    return encode_jpeg(image, variant.jpeg_quality, variant.longest_side, part)


def usual_variant(config: UplinkConfig) -> PictureVariant:
    """The picture variant that is sent unless the policy chooses a smaller one."""
    return PictureVariant(jpeg_quality=config.jpeg_quality, longest_side=config.longest_side)


def as_it_waits(encoded_frame: EncodedFrame) -> EncodedFrame:
    """An unsent frame in the form in which it is spooled: a tensor becomes a picture."""
    if not isinstance(encoded_frame.payload, EncodedTensor):
        return encoded_frame
    return replace(encoded_frame, payload=encoded_frame.payload.picture(), option=PICTURE)
