"""How a model may be split in two: the keys of `split.yaml` in a model folder, and the files beside it.

`spillover lab split` writes it and both sides read it: the edge runs a head, the cloud the matching tail. A
head is identified by its digest, so that a tail of another version never answers it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec

from spillover.common.config import Section, load_config
from spillover.common.config.kinds import DIGEST, name_of_at_most
from spillover.common.errors import ConfigError, ModelError
from spillover.common.features.quantizer import Quantizer
from spillover.common.files import write_atomic
from spillover.common.model.manifest import ModelFolder, file_sha256

SPLIT_FILE = "split.yaml"
SPLIT_FOLDER = "split"

Digest = Annotated[str, DIGEST]
Name = Annotated[str, name_of_at_most(128)]
Positive = Annotated[float, msgspec.Meta(gt=0)]

USUAL_AGE = 8
"""Frames between those that are sent, for which codings are chosen and bytes are guessed."""


class Seam(Section, frozen=True):
    """One tensor that crosses a cut."""

    tensor: str
    """Name of the tensor in the network."""
    shape: tuple[Annotated[int, msgspec.Meta(gt=0)], ...]
    """Shape of the tensor without the batch axis."""
    quantizer: Quantizer
    """How the tensor is quantised."""


class AtAge(Section, frozen=True):
    """What features against a reference of one age take and keep."""

    frames: Annotated[int, msgspec.Meta(ge=1)]
    """Age of the reference: frames of the clip from one that is sent to the next."""
    feature_bytes: Positive
    """Mean size of a coded frame."""
    fidelity: float
    """Share of the whole network's answers that the split network gives too."""


class InterCoding(Section, frozen=True):
    """How a cut's features are coded against those that the cloud has."""

    dead_zone: Annotated[float, msgspec.Meta(ge=0, le=255)]
    """A symbol stays as it was unless its value has moved more than so many steps from it."""
    clip: str
    """Name of the clip on which this was judged; empty: shifted pictures."""
    key_bytes: Positive
    """Mean size there of a frame that is coded without a reference."""
    ages: Annotated[tuple[AtAge, ...], msgspec.Meta(min_length=1)]
    """By rising age of the reference."""

    @property
    def usual(self) -> AtAge:
        """What is to be expected where nothing better is known."""
        return min(self.ages, key=lambda at: abs(at.frames - USUAL_AGE))


class Cut(Section, frozen=True):
    """One way to cut the network."""

    name: Name
    """Name of the cut, for `uplink.split.cuts` and `--cut`."""
    seams: Annotated[tuple[Seam, ...], msgspec.Meta(min_length=1)]
    """The tensors that cross the cut."""
    head_sha256: Digest
    """SHA-256 of the head's ONNX file."""
    tail_sha256: Digest
    """SHA-256 of the tail's ONNX file."""
    feature_bytes: Positive
    """Mean size of a coded frame on the calibration pictures."""
    fidelity: float
    """Share of the whole network's answers that the split network gives too, on those pictures."""
    head_int8: bool = False
    """Whether the head's weights are 8-bit, except for its first layer."""
    inter: InterCoding | None = None
    """How features are coded against those that the cloud has; without it none are."""

    @property
    def elements(self) -> int:
        """Number of elements that cross the cut for one frame."""
        return sum(_product(seam.shape) for seam in self.seams)

    @property
    def usual_bytes(self) -> float:
        """Mean size of a frame as it is usually sent: against a reference, if features are."""
        return self.inter.usual.feature_bytes if self.inter else self.feature_bytes

    @property
    def usual_fidelity(self) -> float:
        """Fidelity of a frame as it is usually sent: without a dead zone, what it is alone."""
        return self.inter.usual.fidelity if self.inter and self.inter.dead_zone else self.fidelity

    @property
    def bits_per_element(self) -> float:
        """Bits per element on the wire, all headers included."""
        return self.feature_bytes * 8 / self.elements


class DeviceProfile(Section, frozen=True):
    """Times of the network and its parts on one device."""

    device: str
    """Name of the device."""
    whole_s: Positive
    """Seconds of the whole network."""
    head_s: Mapping[str, Positive]
    """Seconds of each cut's head, by the cut's name."""
    tail_s: Mapping[str, Positive]
    """Seconds of each cut's tail, by the cut's name."""
    head_sha256: Mapping[str, Digest] = {}
    """Digests of the measured heads; a cut of the same name may have been made again since."""


class SplitPlan(Section, frozen=True):
    """The whole of `split.yaml`, which `spillover lab split` writes."""

    model_sha256: Digest
    """SHA-256 of the network that was cut."""
    cuts: tuple[Cut, ...]
    """The cuts, from the input to the output."""
    profiles: tuple[DeviceProfile, ...] = ()
    """The devices that `spillover lab profile` has measured."""

    def cut(self, name: str) -> Cut:
        """The cut called `name`. Raises ModelError if there is none."""
        for cut in self.cuts:
            if cut.name == name:
                return cut
        known = ", ".join(cut.name for cut in self.cuts)
        raise ModelError(f"there is no cut {name!r} in {SPLIT_FILE}; it has {known}")


def head_path(folder: Path, cut: str) -> Path:
    """Path of a cut's head below the model folder."""
    return folder / SPLIT_FOLDER / f"{cut}.head.onnx"


def tail_path(folder: Path, cut: str) -> Path:
    """Path of a cut's tail below the model folder."""
    return folder / SPLIT_FOLDER / f"{cut}.tail.onnx"


def has_split_plan(folder: Path) -> bool:
    """Whether the model folder has a `split.yaml`."""
    return (folder / SPLIT_FILE).is_file()


def open_split_plan(folder: ModelFolder) -> SplitPlan:
    """Read the split plan of a model folder.

    Raises:
        ModelError: it is absent, not valid, or was made for a network other than the folder's.
    """
    if not has_split_plan(folder.path):
        raise ModelError(f"{folder.path}: there is no split plan; `spillover lab split` makes one")
    try:
        plan = load_config(folder.path / SPLIT_FILE, SplitPlan)
    except ConfigError as error:
        raise ModelError(f"not a split plan: {error}") from error
    if plan.model_sha256 != folder.manifest.sha256:
        raise ModelError(
            f"{folder.path / SPLIT_FILE}: was made for another network; run `spillover lab split` again"
        )
    return plan


def write_split_plan(folder: Path, plan: SplitPlan) -> None:
    """Write `split.yaml` atomically."""
    write_atomic(folder / SPLIT_FILE, msgspec.yaml.encode(msgspec.to_builtins(plan)))


def check_digest(path: Path, digest: str) -> None:
    """Raises ModelError if the file is absent or its digest differs from the plan's."""
    try:
        actual = file_sha256(path)
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}") from error
    if actual != digest:
        raise ModelError(f"{path}: sha256 is {actual}, but {SPLIT_FILE} says {digest}")


def _product(shape: tuple[int, ...]) -> int:
    count = 1
    for length in shape:
        count *= length
    return count
