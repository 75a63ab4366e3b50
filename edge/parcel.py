"""Packs a frame for the way to the cloud, whether it leaves at once or waits on the disk first."""

from collections.abc import Mapping
from types import MappingProxyType

from common.images import encode_jpeg
from common.types import Frame
from edge.config import PayloadKind, UplinkConfig
from edge.features import FeatureEncoder
from edge.values import Parcel, Payload

PICTURE = "picture"
"""The name of the form that is no cut's features."""

NO_ENCODERS: Mapping[str, FeatureEncoder] = MappingProxyType({})


class Packer:
    """Encodes frames as the configuration says. Thread-safe.

    `encoders` are the heads by the names of their cuts. With payload `features_only` nothing else than
    features can be packed, whoever asks.
    """

    def __init__(
        self, config: UplinkConfig, boot_id: str, encoders: Mapping[str, FeatureEncoder] = NO_ENCODERS
    ) -> None:
        self._config = config
        self._boot_id = boot_id
        self._encoders = encoders
        prefers_picture = config.payload in {PayloadKind.PICTURE, PayloadKind.AUTO}
        self._usual = PICTURE if prefers_picture else next(iter(encoders))

    @property
    def pictures_allowed(self) -> bool:
        """Whether pixels may leave the device."""
        return self._config.payload is not PayloadKind.FEATURES_ONLY

    def pack(self, frame: Frame, option: str = "") -> Parcel:
        """Encode in the form `option`, or in the usual one; takes milliseconds.

        Raises:
            InvalidInputError: the frame cannot be encoded.
            ModelError: the head of a cut failed.
        """
        option = option or self._usual
        if option == PICTURE and not self.pictures_allowed:
            option = self._usual
        height, width = frame.image.shape[:2]
        return Parcel(
            frame_id=frame.frame_id,
            camera_id=frame.camera_id,
            boot_id=self._boot_id,
            sequence=frame.sequence,
            captured_unix_s=frame.captured_unix_s,
            frame_width=width,
            frame_height=height,
            payload=self._payload(frame, option),
            option=option,
        )

    def _payload(self, frame: Frame, option: str) -> Payload:
        if option == PICTURE:
            return encode_jpeg(frame.image, self._config.jpeg_quality, self._config.longest_side)
        return self._encoders[option].encode(frame.image)
