"""How a model may be cut in two: what `split.yaml` in a model folder says, and the files beside it.

Written by `spillover lab split`, read by both sides: the edge runs a head, the cloud the tail that belongs to
it. A head is known by its digest, so that a tail of another version never answers it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec

from spillover.common.config import Section, load_config
from spillover.common.errors import ConfigError, ModelError
from spillover.common.features.quantizer import Quantizer
from spillover.common.files import write_atomic
from spillover.common.model.manifest import ModelFolder, file_sha256

SPLIT_FILE = "split.yaml"
SPLIT_FOLDER = "split"

Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
Positive = Annotated[float, msgspec.Meta(gt=0)]


class Seam(Section, frozen=True):
    """One tensor that crosses a cut: its name in the network, shape without batch axis, how it is coded."""

    tensor: str
    shape: tuple[Annotated[int, msgspec.Meta(gt=0)], ...]
    quantizer: Quantizer


class Cut(Section, frozen=True):
    """One way to cut the network.

    `feature_bytes` is the mean size of a coded frame on the calibration pictures, `fidelity` what was kept of
    the whole network's answers there (1: all; see `lab.split.fidelity`).
    """

    name: Name
    seams: Annotated[tuple[Seam, ...], msgspec.Meta(min_length=1)]
    head_sha256: Digest
    tail_sha256: Digest
    feature_bytes: Positive
    fidelity: float
    head_int8: bool = False
    """Whether the head's weights are 8-bit, but for its stem."""

    @property
    def elements(self) -> int:
        """Elements that cross the cut for one frame."""
        return sum(_product(seam.shape) for seam in self.seams)

    @property
    def bits_per_element(self) -> float:
        """What an element costs on the wire, all headers included."""
        return self.feature_bytes * 8 / self.elements


class DeviceProfile(Section, frozen=True):
    """Seconds on one device: the whole network, each cut's head, each cut's tail, all measured as wholes."""

    device: str
    whole_s: Positive
    head_s: Mapping[str, Positive]
    tail_s: Mapping[str, Positive]
    head_sha256: Mapping[str, Digest] = {}
    """Which heads were measured: a cut of the same name may have been made anew since."""


class SplitPlan(Section, frozen=True):
    """The content of `split.yaml`: cuts from the input's end to the output's, and the devices measured."""

    model_sha256: Digest
    cuts: tuple[Cut, ...]
    profiles: tuple[DeviceProfile, ...] = ()

    def cut(self, name: str) -> Cut:
        """The cut of that name. Raises ModelError."""
        for cut in self.cuts:
            if cut.name == name:
                return cut
        known = ", ".join(cut.name for cut in self.cuts)
        raise ModelError(f"there is no cut {name!r} in {SPLIT_FILE}; it has {known}")


def head_path(folder: Path, cut: str) -> Path:
    """Where the head of a cut is, below the model folder."""
    return folder / SPLIT_FOLDER / f"{cut}.head.onnx"


def tail_path(folder: Path, cut: str) -> Path:
    """Where the tail of a cut is, below the model folder."""
    return folder / SPLIT_FOLDER / f"{cut}.tail.onnx"


def has_split_plan(folder: Path) -> bool:
    """Whether the model folder has been split."""
    return (folder / SPLIT_FILE).is_file()


def open_split_plan(folder: ModelFolder) -> SplitPlan:
    """Read the plan of a model folder.

    Raises:
        ModelError: it is absent, not valid, or was made for another network than is in the folder.
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
    """Write `split.yaml`, whole or not at all."""
    write_atomic(folder / SPLIT_FILE, msgspec.yaml.encode(msgspec.to_builtins(plan)))


def check_digest(path: Path, digest: str) -> None:
    """Raises ModelError: the file is absent, or is not the one that the plan names."""
    try:
        found = file_sha256(path)
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}") from error
    if found != digest:
        raise ModelError(f"{path}: sha256 is {found}, but {SPLIT_FILE} says {digest}")


def _product(shape: tuple[int, ...]) -> int:
    count = 1
    for length in shape:
        count *= length
    return count
