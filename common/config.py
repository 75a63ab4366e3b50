"""Typed configuration: a YAML file in, a frozen msgspec structure out, errors that name file and key."""

from pathlib import Path
from typing import TypeVar

import msgspec
import yaml

from common.errors import ConfigError

T = TypeVar("T")


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of every configuration structure: immutable, and a mistyped key is an error, not a silence."""


def load_config(path: Path, kind: type[T]) -> T:
    """Read `path` as YAML into `kind`.

    Raises:
        ConfigError: the file is absent, not YAML, or a key is unknown, missing or out of range. The text
            names the file and the path of the key, as in ``edge.yaml: Expected `float` <= 1.0 - at
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
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: not valid YAML: {error}") from error
    try:
        return msgspec.convert({} if raw is None else raw, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{name}: {error}") from error
