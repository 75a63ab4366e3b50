"""A model on disk: a folder with `model.onnx` and `model.yaml`. This file is what `model.yaml` may say."""

import enum
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from spillover.common.config import Section, load_config
from spillover.common.errors import ConfigError, ModelError
from spillover.common.model.calibration import Calibration
from spillover.common.types import ModelId

MODEL_FILE = "model.onnx"
MANIFEST_FILE = "model.yaml"

PositiveInt = Annotated[int, msgspec.Meta(gt=0)]
Fraction = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Task(enum.Enum):
    """What the model answers with."""

    CLASSIFICATION = "classification"
    DETECTION = "detection"


class Layout(enum.Enum):
    """Order of the input tensor's axes."""

    NCHW = "nchw"
    NHWC = "nhwc"


class Colour(enum.Enum):
    """Order of the input tensor's channels."""

    RGB = "rgb"
    BGR = "bgr"


class Resize(enum.Enum):
    """How a picture of any shape becomes `height` x `width`.

    STRETCH ignores the aspect ratio. LETTERBOX keeps it, places the picture top-left and pads with
    `pad_value` (YOLOX); LETTERBOX_CENTRE places it in the middle (Ultralytics). CENTRE_CROP scales the
    shorter side to size / `crop_fraction` and cuts the middle (ImageNet evaluation).
    """

    STRETCH = "stretch"
    LETTERBOX = "letterbox"
    LETTERBOX_CENTRE = "letterbox_centre"
    CENTRE_CROP = "centre_crop"


class Interpolation(enum.Enum):
    """The resampling filter; BICUBIC_ANTIALIAS widens its kernel when it shrinks, as Pillow does."""

    LINEAR = "linear"
    AREA = "area"
    BICUBIC = "bicubic"
    BICUBIC_ANTIALIAS = "bicubic_antialias"


class Input(Section, frozen=True):
    """How pixels become the input tensor: resize, reorder, then `(x - mean) / std` on values 0..255."""

    height: PositiveInt
    width: PositiveInt
    layout: Layout = Layout.NCHW
    colour: Colour = Colour.RGB
    resize: Resize = Resize.STRETCH
    interpolation: Interpolation = Interpolation.LINEAR
    crop_fraction: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    pad_value: Annotated[int, msgspec.Meta(ge=0, le=255)] = 114
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        """Refuse to divide by nothing."""
        if not all(self.std):
            raise ValueError("std must not be 0")


class Output(Section, frozen=True):
    """How output tensors become a prediction.

    `decoder` is a key of `common.model.decoders`: `softmax` (output holds probabilities), `logits`,
    `yolox`, `fastestdet`, `yolov8`. The thresholds and the calibration belong to detection alone; with a
    calibration, `confidence_threshold` is on the calibrated scale, as everything is that is told outside.
    """

    decoder: str
    confidence_threshold: Fraction = 0.25
    iou_threshold: Fraction = 0.45
    max_detections: PositiveInt = 100
    calibration: Calibration | None = None

    @property
    def network_threshold(self) -> float:
        """`confidence_threshold` on the network's own scale."""
        least = self.confidence_threshold
        return self.calibration.undo(least) if self.calibration else least


class Manifest(Section, frozen=True):
    """The content of `model.yaml`."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
    version: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
    task: Task
    input: Input
    output: Output
    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]
    labels: str = ""
    """A file in the same folder, one class name a line, line 1 for class 0; empty when there are none."""
    description: str = ""

    def __post_init__(self) -> None:
        """Refuse a calibration that nothing would apply."""
        if self.output.calibration and self.task is not Task.DETECTION:
            raise ValueError("output.calibration belongs to detection alone; a classifier has a temperature")


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A checked model folder: the manifest is valid and `model.onnx` has the digest it names."""

    path: Path
    manifest: Manifest
    labels: tuple[str, ...]

    @property
    def onnx_path(self) -> Path:
        """Where the network is."""
        return self.path / MODEL_FILE

    @property
    def model_id(self) -> ModelId:
        """Name and version."""
        return ModelId(self.manifest.name, self.manifest.version)


def open_model_folder(path: Path) -> ModelFolder:
    """Read and check the model folder at `path`.

    Raises:
        ModelError: a file is absent, the manifest is not valid, or the digest differs.
    """
    try:
        manifest = load_config(path / MANIFEST_FILE, Manifest)
    except ConfigError as error:
        raise ModelError(f"not a model folder: {error}") from error
    onnx_path = path / MODEL_FILE
    try:
        digest = file_sha256(onnx_path)
        labels = _read_labels(path / manifest.labels) if manifest.labels else ()
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: {error}") from error
    if digest != manifest.sha256:
        raise ModelError(f"{onnx_path}: sha256 is {digest}, but {MANIFEST_FILE} says {manifest.sha256}")
    return ModelFolder(path, manifest, labels)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest` as `folder`/model.yaml."""
    (folder / MANIFEST_FILE).write_bytes(msgspec.yaml.encode(msgspec.to_builtins(manifest)))


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_labels(path: Path) -> tuple[str, ...]:
    return tuple(path.read_text(encoding="utf-8").splitlines())
