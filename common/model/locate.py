"""Finds a model folder from a path or from the name of a prepared model."""

import re
from pathlib import Path

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
    raise ModelError(
        f"{name}: no model folder (one that holds {MANIFEST_FILE}) is here or in {models_home()}; "
        "`spillover lab prepare` makes the default pair, `spillover lab import` one of your own network"
    )


def model_versions(folder: Path) -> list[str]:
    """The versions of a model below `folder`, oldest first; numbers inside a version compare as numbers."""
    return sorted((path.parent.name for path in folder.glob(f"*/{MODEL_FILE}")), key=version_key)


def version_key(version: str) -> list[tuple[int, int, str]]:
    """Sort key: `2` < `10`, `1.9` < `1.10`; letters sort after numbers."""
    parts = re.findall(r"\d+|[^\d.]+", version)
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts]
