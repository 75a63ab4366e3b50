"""Typed configuration: reads YAML into a frozen msgspec structure; errors name the file and the key."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec
import yaml

from spillover.common.errors import ConfigError, SourceError

T = TypeVar("T")


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of every configuration structure: immutable, and an unknown key is an error."""


def load_config(path: Path, kind: type[T]) -> T:
    """Read `path` as YAML into `kind`.

    Raises:
        ConfigError: the file is absent, not YAML, a key is unknown, missing or out of range, or a number is
            infinite or NaN (which no range check would catch, because it compares as false to everything).
            The
            text names the file and the path of the key, as in ``edge.yaml: Expected `float` <= 1.0 - at
            `$.policy.threshold` ``.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    return parse_config(text, kind, str(path))


def parse_config(text: str, kind: type[T], name: str) -> T:
    """Read YAML `text`, called `name` in errors, into `kind`. Raises ConfigError as `load_config` does."""
    try:
        raw = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{name}: not valid YAML: {' '.join(str(error).split())}") from error
    if (endless := _not_finite(raw)) is not None:
        raise ConfigError(f"{name}: Expected a finite number - at `${endless}`")
    try:
        return msgspec.convert({} if raw is None else raw, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{name}: {error}") from error


@contextmanager
def naming(name: str, elsewhere: Sequence[str] = ()) -> Iterator[None]:
    """Put `name`, the configuration's file, before errors that only show when a value is used.

    Not before those that begin with a key in `elsewhere`: its value did not come from the file.
    """
    try:
        yield
    except (ConfigError, SourceError) as error:
        if name in str(error) or str(error).startswith(tuple(elsewhere)):
            raise
        raise type(error)(f"{name}: {error}") from error


def _not_finite(value: object) -> str | None:
    """The path of the first number in `value` that is NaN or infinite."""
    match value:
        case float():
            return None if math.isfinite(value) else ""
        case dict():
            parts = [(f".{key}", inner) for key, inner in value.items()]
        case list():
            parts = [(f"[{index}]", inner) for index, inner in enumerate(value)]
        case _:
            return None
    found = ((key, _not_finite(inner)) for key, inner in parts)
    return next((f"{key}{path}" for key, path in found if path is not None), None)
