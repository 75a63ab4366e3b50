"""Packs a frame for the way to the cloud, whether it leaves at once or waits on the disk first."""

from common.images import encode_jpeg
from common.types import Frame
from edge.config import UplinkConfig
from edge.values import Parcel


class Packer:
    """Encodes frames as the configuration says. Thread-safe."""

    def __init__(self, config: UplinkConfig, boot_id: str) -> None:
        self._config = config
        self._boot_id = boot_id

    def pack(self, frame: Frame) -> Parcel:
        """Encode; takes milliseconds. Raises InvalidInputError."""
        height, width = frame.image.shape[:2]
        return Parcel(
            frame_id=frame.frame_id,
            camera_id=frame.camera_id,
            boot_id=self._boot_id,
            sequence=frame.sequence,
            captured_unix_s=frame.captured_unix_s,
            frame_width=width,
            frame_height=height,
            picture=encode_jpeg(frame.image, self._config.jpeg_quality, self._config.longest_side),
        )
