"""A classifier that costs next to nothing beside its pictures, and the pictures."""

from collections.abc import Callable
from pathlib import Path

import cv2
import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from spillover.common.images import encode_jpeg
from spillover.common.model.manifest import (
    MANIFEST_FILE,
    MODEL_FILE,
    Input,
    Interpolation,
    Manifest,
    Output,
    Resize,
    file_sha256,
)
from spillover.common.tasks.classification import CLASSIFICATION
from spillover.common.types import Image
from spillover.common.wire.pb import spillover_pb2 as pb

MODEL = "pictures"
INFER = "/spillover.v1.Spillover/Infer"
_SIDE, _CLASSES, _SEED = 260, 1000, 20240607


def write_model(repository: Path) -> None:
    """A mean over the picture and 1000 classes, with the input of EfficientNet-Lite2."""
    weights = np.random.default_rng(_SEED).standard_normal((_CLASSES, 3)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["image"], ["mean"]),
            helper.make_node("Flatten", ["mean"], ["flat"]),
            helper.make_node("Gemm", ["flat", "weights"], ["logits"], transB=1),
        ],
        MODEL,
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, _SIDE, _SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", _CLASSES])],
        [numpy_helper.from_array(weights, "weights")],
    )
    folder = repository / MODEL / "1"
    folder.mkdir(parents=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, folder / MODEL_FILE)
    manifest = Manifest(
        name=MODEL,
        version="1",
        task=CLASSIFICATION.name,
        sha256=file_sha256(folder / MODEL_FILE),
        input=Input(
            height=_SIDE,
            width=_SIDE,
            resize=Resize.CENTRE_CROP,
            interpolation=Interpolation.BICUBIC_ANTIALIAS,
            crop_fraction=0.875,
            mean=(127.0, 127.0, 127.0),
            std=(128.0, 128.0, 128.0),
        ),
        output=Output(decoder="logits"),
    )
    (folder / MANIFEST_FILE).write_bytes(msgspec.yaml.encode(_without_defaults(manifest)))


def _without_defaults(section: msgspec.Struct) -> dict[str, object]:
    """The keys that differ from their defaults: an older commit does not know those that came later."""
    found: dict[str, object] = {}
    for field in msgspec.structs.fields(section):
        value = getattr(section, field.name)
        if isinstance(value, msgspec.Struct):
            found[field.encode_name] = _without_defaults(value)
        elif value != field.default:
            found[field.encode_name] = msgspec.to_builtins(value)
    return found


def textured(width: int, height: int) -> Image:
    """Detail at every scale, as in photographs (noise whose spectrum falls as 1/f)."""
    random = np.random.default_rng(_SEED)
    image = np.zeros((height, width, 3), np.float32)
    for octave in range(3, 9):
        noise = random.normal(0, 1, (2 + (height >> octave), 2 + (width >> octave), 3)).astype(np.float32)
        image += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC) * 2.0**octave / 8
    return np.clip(image * 2 + 128, 0, 255).astype(np.uint8)


def jpeg_of_bytes(image: Image, wanted: int) -> bytes:
    """The JPEG of highest quality that has at most `wanted` bytes; else that of quality 5."""
    fits: Callable[[int], bool] = lambda quality: len(encode_jpeg(image, quality).data) <= wanted  # noqa: E731
    return encode_jpeg(image, next(filter(fits, range(95, 5, -5)), 5)).data


def request_of(jpeg: bytes) -> bytes:
    """A request for five classes."""
    image = pb.EncodedImage(format=pb.EncodedImage.FORMAT_JPEG, data=jpeg)
    request = pb.InferRequest(frame_id="f", model=pb.ModelRef(name=MODEL), image=image, max_classes=5)
    return request.SerializeToString()
