"""Finds a model folder from a path or from the name of a prepared model."""

import re
from pathlib import Path

from spillover.common.config.words import did_you_mean
from spillover.common.errors import ModelError
from spillover.common.home import models_home
from spillover.common.model.manifest import MANIFEST_FILE, MODEL_FILE


def find_model_folder(name: str | Path) -> Path:
    """The folder that `name` refers to.

    A path to a model folder; a path to a folder of versions, of which the newest is used; or either of them
    below the cache folder of prepared models, as in `efficientnet-lite2` or `efficientnet-lite2/1`.

    Raises:
        ModelError: there is no such folder; the text lists the places searched.
    """
    path = Path(name).expanduser()
    for place in (path, models_home() / path):
        if (place / MANIFEST_FILE).is_file():
            return place
        if versions := model_versions(place):
            return place / versions[-1]
    raise ModelError(_nowhere(path))


def _nowhere(path: Path) -> str:
    """Where `path` was looked for, and what helps."""
    if (place := path.absolute()).is_dir():
        return (
            f"{place} holds no {MANIFEST_FILE}, and no folder of a version; `spillover lab import` writes one"
        )
    what, home = f"there is no model folder, which holds {MANIFEST_FILE}", models_home()
    if path.is_absolute():
        return f"{path}: {what}; `spillover lab import` makes one, or copy it there"
    return (
        f"{path}: {what}: not {place} (relative paths begin at the working folder), not {home / path}; "
        "`spillover lab prepare` makes the default pair, `spillover lab prepare --pair detection` one of "
        "detectors, `spillover lab import` a folder of a network of yours"
        f"{did_you_mean(path.parts[0], prepared_models()) if path.parts else ''}"
    )


def prepared_models() -> list[str]:
    """The names of the models in the cache folder."""
    home = models_home()
    return sorted(path.name for path in home.iterdir() if path.is_dir()) if home.is_dir() else []


def model_versions(folder: Path) -> list[str]:
    """The versions of a model below `folder`, oldest first; numbers inside a version compare as numbers."""
    return sorted((path.name for path in version_folders(folder)), key=version_key)


def version_folders(folder: Path, models: str = "") -> set[Path]:
    """The folders of versions below `folder`, or below those that the pattern `models` finds in it.

    Such a folder holds a network, or, of a fused model, `model.yaml` and below it a folder with a network.
    """
    plain = {path.parent for path in folder.glob(f"{models}*/{MODEL_FILE}")}
    fused = {path.parents[1] for path in folder.glob(f"{models}*/*/{MODEL_FILE}")}
    return plain | {path for path in fused if (path / MANIFEST_FILE).is_file()}


def version_key(version: str) -> list[tuple[int, int, str]]:
    """Sort key: `2` < `10`, `1.9` < `1.10`; letters sort after numbers."""
    parts = re.findall(r"\d+|[^\d.]+", version)
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts]
