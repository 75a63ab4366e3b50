"""Configurations of the processes that the workbench starts: merged from parts, written beside results."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml


def merged(*parts: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings laid over each other, the later one above; lists and values are replaced whole."""
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


def write_yaml(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` in its own order."""
    path.write_text(yaml.safe_dump(dict(content), sort_keys=False), encoding="utf-8")
