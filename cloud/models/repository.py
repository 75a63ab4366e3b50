"""Models on disk: `<root>/<name>/<version>/model.onnx`, with `model.yaml` beside it for vision models.

A fused model has `model.yaml`, and folders with its members in place of `model.onnx`.

The repository knows what could be served; `cloud.serving.registry` knows what is.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from spillover.common.errors import ModelError, NotFoundError
from spillover.common.model.locate import model_versions, version_folders
from spillover.common.model.manifest import MANIFEST_FILE, MODEL_FILE
from spillover.common.types import ModelId

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True)
class Entry:
    """One version of one model on disk."""

    model_id: ModelId
    path: Path

    @property
    def root(self) -> Path:
        """The repository's folder."""
        return self.path.parents[1]

    @property
    def network_path(self) -> Path:
        """Its network's file."""
        return self.path / MODEL_FILE

    @property
    def has_manifest(self) -> bool:
        """Whether it is a vision model; without a manifest it is tensors in, tensors out."""
        return (self.path / MANIFEST_FILE).exists()

    def files(self) -> list[Path]:
        """Its files and folders, to the depth of a split network's parts and of a fused model's members."""
        return [*self.path.glob("*"), *self.path.glob("*/*")]

    def check_links(self) -> None:
        """Refuse links out of the repository, to files that nobody put there to be served.

        Links inside it are followed: `current` may lead to a version.

        Raises:
            ModelError: a file or folder of this version is such a link.
        """
        root = self.root.resolve()
        for path in (self.path, *self.files()):
            if not path.resolve().is_relative_to(root):
                raise ModelError(
                    f"{path}: leads out of the repository; copy the file, "
                    "or let models.repository name a folder that holds both"
                )

    def hide_root(self, text: str) -> str:
        """`text` with paths that begin at the model's name: callers need not know this machine's folders."""
        for root in (self.root, self.root.resolve()):
            text = text.replace(f"{root}/", "")
        return text


class Repository:
    """The folder tree. Reads the disk at every call, so that a version copied in is seen at once."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> list[str]:
        """Names of all models that have a version, sorted."""
        return sorted({path.parent.name for path in version_folders(self.root, "*/")})

    def versions(self, name: str) -> list[str]:
        """Versions of `name`, oldest first; numbers inside a version compare as numbers."""
        if not _NAME.fullmatch(name):
            return []
        return model_versions(self.root / name)

    def all_versions(self) -> list[ModelId]:
        """Every version of every model, sorted."""
        return [ModelId(name, version) for name in self.names() for version in self.versions(name)]

    def find(self, name: str, version: str = "") -> Entry:
        """The entry for `name`, its newest version when none is said.

        Raises:
            NotFoundError: there is no such model or version; the text names those that there are.
        """
        versions = self.versions(name)
        if not versions:
            raise NotFoundError(
                f"no model {name!r} in the repository; it has {', '.join(self.names()) or 'none'}"
            )
        chosen = version or versions[-1]
        if chosen not in versions:
            raise NotFoundError(f"no version {chosen!r} of model {name!r}; there are {', '.join(versions)}")
        return Entry(ModelId(name, chosen), self.root / name / chosen)
