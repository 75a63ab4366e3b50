"""Builds prepared models where they are missing or were built otherwise; `build.json` in each says how."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from spillover.common.config import Section
from spillover.common.errors import ModelError
from spillover.common.model.manifest import open_model_folder
from spillover.lab.files import write_json
from spillover.lab.models.folder import building, made_here

if TYPE_CHECKING:
    from rich.console import Console

BUILD_FILE = "build.json"


def ensure_built(
    target: Path,
    wanted: dict[str, Any],
    write: Callable[[Path], None],
    *,
    force: bool,
    console: "Console | None",
) -> None:
    """Build `target` by `write` unless it is complete and its build file says all of `wanted`."""
    build = force or not is_built(target, wanted)
    if console is not None:
        text = f"{target}: {'building' if build else 'up to date'}"
        console.print(text, highlight=False, soft_wrap=True)
    if build:
        with building(target) as folder:
            write(folder)
            made = {"sha256": open_model_folder(folder).manifest.sha256, "made_on": made_here()}
            write_json(folder / BUILD_FILE, wanted | made)


def is_built(target: Path, wanted: dict[str, Any]) -> bool:
    """Whether the folder is complete and its build file says all of `wanted`; it may say more."""
    try:
        open_model_folder(target)
        built = json.loads((target / BUILD_FILE).read_text(encoding="utf-8"))
    except (ModelError, OSError, ValueError):
        return False
    return isinstance(built, dict) and wanted.items() <= built.items()


def plain(value: Section) -> Any:  # noqa: ANN401 - what JSON can hold
    """As it reads back from a JSON file."""
    return json.loads(msgspec.json.encode(value))
