"""A model on disk: a folder with `model.onnx` and `model.yaml`.

This file defines the keys of `model.yaml`.
"""

import enum
import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np

from spillover.common.config import Mistake, Section, load_config
from spillover.common.config.kinds import DIGEST, name_of_at_most
from spillover.common.errors import ConfigError, ModelError
from spillover.common.files import open_regular, read_regular
from spillover.common.model.calibration import Calibration
from spillover.common.model.runtimes.base import MAX_NETWORK_BYTES
from spillover.common.tasks import TASKS, Tasks, spec_of
from spillover.common.tasks.base import TaskSpec
from spillover.common.types import FloatArray, ModelId

MODEL_FILE = "model.onnx"
MANIFEST_FILE = "model.yaml"

_MAX_LABELS_BYTES = 1024 * 1024
_MAX_ANCHORS_BYTES = 16 * 1024 * 1024

PositiveInt = Annotated[int, msgspec.Meta(gt=0)]
MemberName = Annotated[str, name_of_at_most(128)]
Fraction = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Layout(enum.Enum):
    """Order of the input tensor's axes."""

    NCHW = "nchw"
    NHWC = "nhwc"


class Colour(enum.Enum):
    """The channels of the input tensor, in their order."""

    RGB = "rgb"
    BGR = "bgr"
    GREY = "grey"
    """One channel: the luminance."""

    @property
    def channels(self) -> int:
        """How many channels the input tensor has."""
        return 1 if self is Colour.GREY else 3


class Element(enum.Enum):
    """Type of the input tensor's elements."""

    FLOAT32 = "float32"
    UINT8 = "uint8"
    """Pixels as they are; the network normalises them itself."""


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
    """The channels of the input tensor, in their order."""
    element: Element = Element.FLOAT32
    """Type of the input tensor's elements."""
    resize: Resize = Resize.STRETCH
    """How a picture of any shape becomes `height` x `width`."""
    interpolation: Interpolation = Interpolation.LINEAR
    """The resampling filter."""
    crop_fraction: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    """`centre_crop`: the share of the shorter side that is kept."""
    pad_value: Annotated[int, msgspec.Meta(ge=0, le=255)] = 114
    """`letterbox`: grey level of the padding."""
    mean: tuple[float, ...] = (0.0,)
    """Subtracted from the pixels: one number for all channels, or one for each, in their order."""
    std: tuple[float, ...] = (1.0,)
    """The pixels are then divided by it: one number for all channels, or one for each."""

    def checks(self) -> Iterable[Iterable[Mistake]]:
        """Refuse a `std` of 0, and numbers that fit neither the channels nor the element."""
        return self._divisors(), self._channels(), self._element()

    def _divisors(self) -> Iterator[Mistake]:
        if not all(self.std):
            yield "std", "must not be 0: values are divided by it"

    def _channels(self) -> Iterator[Mistake]:
        counts = sorted({1, self.colour.channels})
        for key, numbers in (("mean", self.mean), ("std", self.std)):
            if len(numbers) not in counts:
                allowed = " or ".join(map(str, counts))
                yield key, f"has {len(numbers)} numbers, but colour {self.colour.value} takes {allowed}"

    def _element(self) -> Iterator[Mistake]:
        if self.element is Element.UINT8 and (any(self.mean) or any(one != 1 for one in self.std)):
            yield "element", "uint8 takes pixels as they are: leave mean and std away"


class Output(Section, frozen=True):
    """How output tensors become a prediction."""

    decoder: str
    """What the first output holds; the table of decoders below. A fused model's is `weighted_boxes`."""
    confidence_threshold: Fraction = 0.25
    """Detection: boxes of lower confidence are dropped; on the calibrated scale if there is a calibration."""
    report_threshold: Fraction | None = None
    """Detection: boxes below are not reported; the edge's policy sees them. Null: `confidence_threshold`."""
    iou_threshold: Fraction = 0.45
    """Detection: of two boxes of one class that overlap more, the less confident one is dropped. Boxes of a
    fused model's members that overlap more become one."""
    max_detections: PositiveInt = 100
    """Detection: the most boxes of one picture."""
    anchors: str = ""
    """Detection, `ssd`: a file inside the same folder with the anchors, top, left, bottom, right as shares of
    the picture: an array (anchors, 4) as NumPy's .npy."""
    calibration: Calibration | None = None
    """Detection: confidences on another scale, which `lab import --data` or `lab fit --calibrate` writes."""

    @property
    def reported_from(self) -> float:
        """The confidence from which boxes are reported."""
        return self.confidence_threshold if self.report_threshold is None else self.report_threshold

    @property
    def network_threshold(self) -> float:
        """`confidence_threshold` on the network's own scale."""
        return self.on_network_scale(self.confidence_threshold)

    def on_network_scale(self, confidence: float) -> float:
        """The network's own confidence that is reported as this one."""
        return self.calibration.undo(confidence) if self.calibration else confidence


class Manifest(Section, frozen=True):
    """The whole of `model.yaml`."""

    name: Annotated[str, name_of_at_most(128)]
    """Name of the model in requests and results."""
    version: Annotated[str, name_of_at_most(128)]
    """Version of the model."""
    task: str
    """What the model predicts: `classification` or `detection`."""
    output: Output
    """How output tensors become a prediction."""
    input: Input | None = None
    """How pixels become the input tensor; required, but for a fused model, whose members have their own."""
    members: Annotated[tuple[MemberName, ...], msgspec.Meta(max_length=8)] = ()
    """A fused model: the folders of its members, which lie inside its own, in place of `model.onnx`."""
    sha256: Annotated[str, DIGEST] = ""
    """SHA-256 of `model.onnx`; a file with another digest is refused. Without it any file is taken. Of a
    fused model: of the members' digests in their order, one a line."""
    made_on: str = ""
    """Processor and library that made an INT8 `model.onnx`; others may give another digest."""
    decode: Decode = Decode.SCALED
    """How much of a JPEG is decoded."""
    labels: str = ""
    """A file inside the same folder with one class name a line, line 1 for class 0; empty: no names, or those
    of a fused model's members."""
    description: str = ""
    """Free text."""

    def checks(self) -> Iterable[Iterable[Mistake]]:
        """A model has an input of its own, or two members or more, each once."""
        return (self._networks(),)

    def _networks(self) -> Iterator[Mistake]:
        if not self.members:
            if self.input is None:
                yield "input", "is required, unless the model is fused (`members`)"
            return
        if self.input is not None:
            yield "input", "a fused model has none: its members have"
        if len(self.members) < 2 or len(set(self.members)) != len(self.members):
            yield "members", "needs two folders or more, each once"

    @property
    def own_input(self) -> Input:
        """How pixels become the input tensor. Raises ModelError for a fused model, which has several."""
        if self.input is None:
            raise self.fused_error()
        return self.input

    def fused_error(self) -> ModelError:
        """The error where one network is needed and this model has several."""
        return ModelError(
            f"model {self.name} is fused from {' and '.join(self.members)}: this takes a model of one "
            "network, such as one of those"
        )

    def reporting(self) -> "Manifest":
        """The same for a side on which nobody sees boxes that are not reported: they are not even decoded."""
        reported = msgspec.structs.replace(self.output, confidence_threshold=self.output.reported_from)
        return msgspec.structs.replace(self, output=reported)


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A checked model folder: the manifest is valid and holds the digest of `model.onnx`."""

    path: Path
    manifest: Manifest
    labels: tuple[str, ...]
    task: TaskSpec[Any]
    anchors: FloatArray | None = None
    """Left, top, right, bottom (N, 4) as shares of the input, of a decoder that has them."""
    members: tuple["ModelFolder", ...] = ()
    """Of a fused model; none of them has members."""

    @property
    def onnx_path(self) -> Path:
        """Path of `model.onnx`. Raises ModelError for a fused model, which has several."""
        if self.members:
            raise self.manifest.fused_error()
        return self.path / MODEL_FILE

    @property
    def model_id(self) -> ModelId:
        """Name and version from the manifest."""
        return ModelId(self.manifest.name, self.manifest.version)

    @property
    def input_sides(self) -> tuple[int, int]:
        """Width and height in pixels of the input; of a fused model the largest of its members."""
        inputs = [folder.manifest.own_input for folder in self.members or (self,)]
        return max(one.width for one in inputs), max(one.height for one in inputs)

    def reporting(self) -> "ModelFolder":
        """The same folder, with `Manifest.reporting`."""
        return replace(self, manifest=self.manifest.reporting())


def open_model_folder(path: Path, tasks: Tasks = TASKS) -> ModelFolder:
    """Read and check the model folder at `path`; its task must be one of `tasks`.

    Raises:
        ModelError: a file is absent, too large or not a regular one, the manifest is not valid, labels are
            outside of the folder, or the digest differs.

    Where the manifest states no digest, the one of the file takes its place.
    """
    manifest = _read_manifest(path)
    task = _task_of(path / MANIFEST_FILE, manifest, tasks)
    members = tuple(_open_member(path / name, manifest, tasks) for name in manifest.members)
    try:
        digest = _digest_of(members) if members else file_sha256(path / MODEL_FILE)
        labels = _read_labels(path, manifest.labels) if manifest.labels else _labels_of(members)
    except OSError as error:
        raise ModelError(f"{error.filename or path}: {error.strerror or error}") from error
    except ValueError as error:  # labels that are no UTF-8
        raise ModelError(f"{path}: {error}") from error
    anchors = read_anchors(path, manifest)
    if manifest.sha256 not in {digest, ""}:
        raise ModelError(
            f"{path if members else path / MODEL_FILE}: sha256 is {digest}, but {MANIFEST_FILE} says "
            f"{manifest.sha256}: one of the files is damaged or of another model; copy all together, or "
            "leave `sha256` away to take any"
        )
    return ModelFolder(path, msgspec.structs.replace(manifest, sha256=digest), labels, task, anchors, members)


def _read_manifest(path: Path) -> Manifest:
    try:
        return load_config(path / MANIFEST_FILE, Manifest)
    except ConfigError as error:
        raise ModelError(f"not a model folder: {error}") from error


def _open_member(path: Path, fused: Manifest, tasks: Tasks) -> ModelFolder:
    """A member of a fused model. Raises ModelError."""
    if _read_manifest(path).members:  # asked first: a link could lead back to the fused model
        raise ModelError(f"{path}: is fused itself: name its members instead")
    member = open_model_folder(path, tasks)
    if member.task.name != fused.task:
        raise ModelError(f"{path}: its task is {member.task.name}, that of {fused.name} is {fused.task}")
    return member


def _labels_of(members: Sequence[ModelFolder]) -> tuple[str, ...]:
    """The first member's that has any; none without members."""
    return next((member.labels for member in members if member.labels), ())


def _digest_of(members: Sequence[ModelFolder]) -> str:
    lines = "".join(f"{member.manifest.sha256}\n" for member in members)
    return hashlib.sha256(lines.encode()).hexdigest()


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest` as `folder`/model.yaml, without the keys of the other kind of model."""
    written = msgspec.to_builtins(manifest)
    for key in ("input", "members", "sha256"):
        if not written[key]:
            del written[key]
    (folder / MANIFEST_FILE).write_bytes(msgspec.yaml.encode(written))


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a regular file's bytes. Raises OSError."""
    with open_regular(path, MAX_NETWORK_BYTES) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_anchors(folder: Path, manifest: Manifest) -> FloatArray | None:
    """The anchors of the model in `folder`, (N, 4): left, top, right, bottom. None where it has none.

    Raises:
        ModelError: the file is absent or outside of the folder, or holds no finite numbers of that shape.
    """
    name = manifest.output.anchors
    if not name:
        return None
    try:
        data = read_regular(_inside(folder, "output.anchors", name), _MAX_ANCHORS_BYTES)
        stored = np.load(io.BytesIO(data), allow_pickle=False)
    except OSError as error:
        raise ModelError(f"{error.filename or folder}: {error.strerror or error}") from error
    except (ValueError, EOFError) as error:
        raise ModelError(f"{folder}: output.anchors: {error}") from error
    fits = isinstance(stored, np.ndarray) and stored.ndim == 2 and stored.shape[1] == 4
    if not fits or stored.dtype.kind != "f" or not np.isfinite(stored).all():
        raise ModelError(f"{folder}: output.anchors: {name} is no array of four finite numbers a row")
    anchors: FloatArray = stored[:, [1, 0, 3, 2]].astype(np.float32)
    return anchors


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
    return tuple(
        read_regular(_inside(folder, "labels", name), _MAX_LABELS_BYTES).decode("utf-8").splitlines()
    )


def _inside(folder: Path, key: str, name: str) -> Path:
    """The file that `key` names. Raises ModelError if that is outside of the folder."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ModelError(f"{folder}: {key}: {name!r} leads out of the folder")
    return path
