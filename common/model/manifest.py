"""A model on disk: a folder with `model.onnx` and `model.yaml`.

This file defines the keys of `model.yaml`.
"""

import enum
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec

from spillover.common.config import Mistake, Section, load_config
from spillover.common.config.kinds import DIGEST, name_of_at_most
from spillover.common.errors import ConfigError, ModelError
from spillover.common.files import open_regular, read_regular
from spillover.common.model.calibration import Calibration
from spillover.common.model.runtimes.base import MAX_NETWORK_BYTES
from spillover.common.tasks import TASKS, Tasks, spec_of
from spillover.common.tasks.base import TaskSpec
from spillover.common.types import ModelId

MODEL_FILE = "model.onnx"
MANIFEST_FILE = "model.yaml"

_MAX_LABELS_BYTES = 1024 * 1024

PositiveInt = Annotated[int, msgspec.Meta(gt=0)]
Fraction = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Layout(enum.Enum):
    """Order of the input tensor's axes."""

    NCHW = "nchw"
    NHWC = "nhwc"


class Colour(enum.Enum):
    """Order of the input tensor's channels."""

    RGB = "rgb"
    BGR = "bgr"


class Resize(enum.Enum):
    """How a picture of any shape becomes `height` x `width`."""

    STRETCH = "stretch"
    """Ignore the aspect ratio."""
    LETTERBOX = "letterbox"
    """Keep the aspect ratio, place the picture top left, pad with `pad_value` (YOLOX)."""
    LETTERBOX_CENTRE = "letterbox_centre"
    """As `letterbox`, with the picture in the middle (Ultralytics)."""
    CENTRE_CROP = "centre_crop"
    """Scale the shorter side to size / `crop_fraction` and cut out the middle (ImageNet evaluation)."""


class Interpolation(enum.Enum):
    """The resampling filter."""

    LINEAR = "linear"
    AREA = "area"
    BICUBIC = "bicubic"
    BICUBIC_ANTIALIAS = "bicubic_antialias"
    """Bicubic with a kernel that widens when it shrinks, as in Pillow."""


class Decode(enum.Enum):
    """How much of a JPEG is decoded."""

    SCALED = "scaled"
    """At half, a quarter or an eighth of its size, where that is still larger than the input."""
    EXACT = "exact"
    """All of it."""


class Input(Section, frozen=True):
    """How pixels become the input tensor: resize, reorder, then `(x - mean) / std` on values 0..255."""

    height: PositiveInt
    """Rows of the input tensor."""
    width: PositiveInt
    """Columns of the input tensor."""
    layout: Layout = Layout.NCHW
    """Order of the input tensor's axes."""
    colour: Colour = Colour.RGB
    """Order of the input tensor's channels."""
    resize: Resize = Resize.STRETCH
    """How a picture of any shape becomes `height` x `width`."""
    interpolation: Interpolation = Interpolation.LINEAR
    """The resampling filter."""
    crop_fraction: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    """`centre_crop`: the share of the shorter side that is kept."""
    pad_value: Annotated[int, msgspec.Meta(ge=0, le=255)] = 114
    """`letterbox`: grey level of the padding."""
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Subtracted from each channel."""
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Each channel is divided by it."""

    def checks(self) -> Iterable[Iterable[Mistake]]:
        """Refuse a `std` of 0."""
        return (self._divisors(),)

    def _divisors(self) -> Iterator[Mistake]:
        if not all(self.std):
            yield "std", "must not be 0: values are divided by it"


class Output(Section, frozen=True):
    """How output tensors become a prediction."""

    decoder: str
    """`softmax` (the output holds probabilities), `logits`, `yolox`, `fastestdet` or `yolov8`."""
    confidence_threshold: Fraction = 0.25
    """Detection: boxes of lower confidence are dropped; on the calibrated scale if there is a calibration."""
    iou_threshold: Fraction = 0.45
    """Detection: of two boxes of one class that overlap more, the less confident one is dropped."""
    max_detections: PositiveInt = 100
    """Detection: the most boxes of one picture."""
    calibration: Calibration | None = None
    """Detection: puts confidences on the cloud's scale, as `spillover lab fit --calibrate` writes it."""

    @property
    def network_threshold(self) -> float:
        """`confidence_threshold` on the network's own scale."""
        least = self.confidence_threshold
        return self.calibration.undo(least) if self.calibration else least


class Manifest(Section, frozen=True):
    """The whole of `model.yaml`."""

    name: Annotated[str, name_of_at_most(128)]
    """Name of the model in requests and results."""
    version: Annotated[str, name_of_at_most(128)]
    """Version of the model."""
    task: str
    """What the model predicts: `classification` or `detection`."""
    input: Input
    """How pixels become the input tensor."""
    output: Output
    """How output tensors become a prediction."""
    sha256: Annotated[str, DIGEST]
    """SHA-256 of `model.onnx`; a file with another digest is refused."""
    decode: Decode = Decode.SCALED
    """How much of a JPEG is decoded."""
    labels: str = ""
    """A file inside the same folder with one class name a line, line 1 for class 0; empty: no names."""
    description: str = ""
    """Free text."""


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A checked model folder: the manifest is valid and `model.onnx` has the digest it names."""

    path: Path
    manifest: Manifest
    labels: tuple[str, ...]
    task: TaskSpec[Any]

    @property
    def onnx_path(self) -> Path:
        """Path of `model.onnx`."""
        return self.path / MODEL_FILE

    @property
    def model_id(self) -> ModelId:
        """Name and version from the manifest."""
        return ModelId(self.manifest.name, self.manifest.version)


def open_model_folder(path: Path, tasks: Tasks = TASKS) -> ModelFolder:
    """Read and check the model folder at `path`; its task must be one of `tasks`.

    Raises:
        ModelError: a file is absent, too large or not a regular one, the manifest is not valid, labels are
            outside of the folder, or the digest differs.
    """
    try:
        manifest = load_config(path / MANIFEST_FILE, Manifest)
    except ConfigError as error:
        raise ModelError(f"not a model folder: {error}") from error
    task = _task_of(path / MANIFEST_FILE, manifest, tasks)
    onnx_path = path / MODEL_FILE
    try:
        digest = file_sha256(onnx_path)
        labels = _read_labels(path, manifest.labels) if manifest.labels else ()
    except OSError as error:
        raise ModelError(f"{error.filename or path}: {error.strerror or error}") from error
    except ValueError as error:  # labels that are elsewhere, or no UTF-8
        raise ModelError(f"{path}: {error}") from error
    if digest != manifest.sha256:
        raise ModelError(f"{onnx_path}: sha256 is {digest}, but {MANIFEST_FILE} says {manifest.sha256}")
    return ModelFolder(path, manifest, labels, task)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest` as `folder`/model.yaml."""
    (folder / MANIFEST_FILE).write_bytes(msgspec.yaml.encode(msgspec.to_builtins(manifest)))


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a regular file's bytes. Raises OSError."""
    with open_regular(path, MAX_NETWORK_BYTES) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _task_of(path: Path, manifest: Manifest, tasks: Tasks) -> TaskSpec[Any]:
    try:
        task = spec_of(manifest.task, tasks)
    except ModelError as error:
        raise ModelError(f"{path}: task: {error}") from error
    if manifest.output.calibration and not task.calibrates:
        raise ModelError(f"{path}: output.calibration: a model for {task.name} is not calibrated")
    return task


def _read_labels(folder: Path, name: str) -> tuple[str, ...]:
    """The lines of `name` in `folder`; they go to callers, so a link must not lead to another file."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ValueError(f"labels: {name!r} leads out of the folder")
    return tuple(read_regular(path, _MAX_LABELS_BYTES).decode("utf-8").splitlines())
