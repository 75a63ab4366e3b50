"""Turns pictures into the input tensor of the cloud's network, for servers that accept no pictures.

Only the network's `model.yaml` is read, so the device does not need the network itself.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from spillover.common.config import load_config
from spillover.common.errors import ConfigError, InvalidInputError, SpilloverError
from spillover.common.geometry import FrameTransform
from spillover.common.images import EncodedImage, encode_jpeg
from spillover.common.model.decoders import ModelDecoder, decoder_for
from spillover.common.model.locate import find_model_folder
from spillover.common.model.manifest import MANIFEST_FILE, Element, Manifest, read_anchors
from spillover.common.model.preprocess import preprocess, preprocess_jpeg
from spillover.common.tasks.base import TaskSpec
from spillover.common.types import Image, Tensor
from spillover.common.wire.tensors import DTYPES
from spillover.edge.config import OipConfig, TensorType, UplinkConfig
from spillover.edge.payload.encoder import TENSOR
from spillover.edge.payload.types import EncodedFeatures, EncodedFrame, EncodedTensor, EncodedVideo

_MAX_PIXELS = 100_000_000
"""Limit for a picture from this device's own spool."""


class TensorEncoder:
    """Prepares frames as the network's manifest says; the manifest must be for `task`. Thread-safe.

    Raises:
        ConfigError: the manifest cannot be used, is for another task than the edge's model, or its tensor
            does
            not fit the configured datatype or message size.
    """

    def __init__(self, config: UplinkConfig, oip: OipConfig, task: TaskSpec[Any]) -> None:
        self.manifest, self.decoder = read_manifest(oip.manifest, task)
        self._picture = partial(encode_jpeg, quality=config.jpeg_quality, longest_side=config.longest_side)
        self._dtype = DTYPES[oip.datatype.value]
        _check_datatype(self.manifest, oip)
        spec = self.manifest.own_input
        size = self._encode(np.zeros((spec.height, spec.width, 3), np.uint8)).tensor.nbytes
        if size >= config.max_message_bytes:
            raise ConfigError(
                f"uplink.max_message_bytes: {config.max_message_bytes} is less than a tensor, {size} bytes"
            )

    def encode(self, image: Image) -> EncodedTensor:
        """A BGR frame as one row of input: (1, 3, H, W) or (1, H, W, 3), as the manifest says."""
        return self._encode(image)

    def refit(self, encoded_frame: EncodedFrame) -> EncodedFrame:
        """The same frame as a tensor; a spooled frame may hold a picture instead.

        Raises:
            InvalidInputError: it holds no picture, or a damaged one.
        """
        match encoded_frame.payload:
            case EncodedTensor():
                return encoded_frame
            case EncodedFeatures() | EncodedVideo():
                raise InvalidInputError("features and video cannot be sent with uplink.protocol: oip")
            case EncodedImage() as picture:
                values, transform = preprocess_jpeg(picture.data, _MAX_PIXELS, self.manifest)
                made = self._made(values, picture.transform.compose(transform), lambda: picture)
                return replace(encoded_frame, payload=made, option=TENSOR)

    def _encode(self, image: Image) -> EncodedTensor:
        return self._made(*preprocess(image, self.manifest.own_input), partial(self._picture, image))

    def _made(
        self, values: Tensor, transform: FrameTransform, picture: Callable[[], EncodedImage]
    ) -> EncodedTensor:
        return EncodedTensor(self._cast(values)[None], transform, picture)

    def _cast(self, values: Tensor) -> Tensor:
        if self._dtype.kind == "u":
            values = np.clip(np.rint(values.astype(np.float32, copy=False)), 0, 255)
        return values.astype(self._dtype, copy=False)


def read_manifest(name: str, task: TaskSpec[Any]) -> tuple[Manifest, ModelDecoder]:
    """The manifest that `uplink.oip.manifest` names, and its decoder. Raises ConfigError."""
    path = Path(name).expanduser()
    try:
        file = path if path.is_file() else find_model_folder(path) / MANIFEST_FILE
        manifest = load_config(file, Manifest).reporting()
        if manifest.task != task.name:
            raise ConfigError(f"{manifest.name} does {manifest.task}, the edge's model {task.name}")
        return manifest, decoder_for(manifest, task, read_anchors(file.parent, manifest))
    except SpilloverError as error:
        raise ConfigError(f"uplink.oip.manifest: {error}") from error


def _check_datatype(manifest: Manifest, oip: OipConfig) -> None:
    spec = manifest.own_input
    if spec.element is Element.UINT8 and oip.datatype is not TensorType.UINT8:
        raise ConfigError(f"uplink.oip.datatype: the network of {manifest.name} takes UINT8 (input.element)")
    if oip.datatype is TensorType.UINT8 and (any(spec.mean) or any(std != 1 for std in spec.std)):
        raise ConfigError(
            f"uplink.oip.datatype: UINT8 takes plain pixels, but {manifest.name} normalises them (mean, std)"
        )
