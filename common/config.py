"""Typed configuration: reads YAML into a frozen msgspec structure; errors name the file and the key."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import msgspec
import yaml

from spillover.common.errors import ConfigError, SourceError
from spillover.common.files import read_regular

T = TypeVar("T")

MAX_BYTES, _MAX_NODES, _MAX_DEPTH = 4 * 1024 * 1024, 250_000, 32
"""Bounds of a file, of its keys and values, and of how deep they are nested; at most 3 s of parsing."""

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C parser takes a fifth of the time


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of every configuration structure: immutable, and an unknown key is an error."""


def load_config(path: Path, kind: type[T]) -> T:
    """Read `path` as YAML into `kind`.

    Raises:
        ConfigError: the file is absent, not a regular file, too large, not YAML, a key is unknown, missing or
            out of range, or a number is infinite or NaN (which no range check would catch, because it
            compares as false to everything). The text names the file and the path of the key, as in
            ``edge.yaml: Expected `float` <= 1.0 - at `$.policy.threshold` ``.
    """
    return parse_config(read_text(path), kind, str(path))


def read_text(path: Path) -> str:
    """The text of a configuration file. Raises ConfigError like `load_config`."""
    try:
        return read_regular(path, MAX_BYTES).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {getattr(error, 'strerror', '') or error}") from error


def parse_config(text: str, kind: type[T], name: str) -> T:
    """Read YAML `text`, called `name` in errors, into `kind`. Raises ConfigError as `load_config` does."""
    try:
        return msgspec.convert(parse_yaml(text, name), kind)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{name}: {error}") from error


def parse_yaml(text: str, name: str) -> object:
    """The values of YAML `text`, called `name` in errors; an empty text is an empty mapping.

    Anchors and aliases are refused: ten lines of them make 10 ** 10 values.

    Raises:
        ConfigError: it is not YAML, has an anchor, is too large or too deep, or has a number that is none.
    """
    try:
        _check_size(text)
        raw = yaml.load(text, _LOADER)  # noqa: S506 - one of PyYAML's two safe loaders
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{name}: not valid YAML: {' '.join(str(error).split())}") from error
    if (endless := _not_finite(raw)) is not None:
        raise ConfigError(f"{name}: Expected a finite number - at `${endless}`")
    return {} if raw is None else raw


def _check_size(text: str) -> None:
    """Raises YAMLError for what would take too long to build, or too deep a stack."""
    nodes = depth = 0
    for event in yaml.parse(text, _LOADER):
        if isinstance(event, yaml.NodeEvent):
            nodes += 1
            if event.anchor is not None:
                raise yaml.YAMLError(f"anchors and aliases are not read, such as {event.anchor!r}")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _MAX_DEPTH or nodes > _MAX_NODES:
            raise yaml.YAMLError(f"deeper than {_MAX_DEPTH} levels, or more than {_MAX_NODES} values")


def faults_of(raw: object, kind: Any, where: str = "") -> Iterator[str]:  # noqa: ANN401 - any type
    """Every mistake in `raw`, of which `msgspec.convert` to `kind` tells the first; `where` is its key path.

    Sections are gone through key by key. What a section says of its keys together is looked at when each of
    them is good.
    """
    if get_origin(kind) is dict and isinstance(raw, dict) and _section_in(get_args(kind)[1]):
        for key, inner in raw.items():
            yield from faults_of(inner, get_args(kind)[1], f"{where}.{key}")
        return
    section = _section_in(kind)
    if not (section and isinstance(raw, dict)):
        yield from _fault(raw, kind, where)
        return
    fields = {field.encode_name: field for field in msgspec.structs.fields(section)}
    found = [f"Object contains unknown field `{key}`{_at(where)}" for key in raw if key not in fields]
    for name, field in fields.items():
        if name in raw:
            found.extend(faults_of(raw[name], field.type, f"{where}.{name}"))
        elif field.required:
            found.append(f"Object missing required field `{name}`{_at(where)}")
    yield from found or _fault(raw, kind, where)


def _section_in(kind: Any) -> type[Section] | None:  # noqa: ANN401 - any type
    """`kind` itself, or the section that it may be beside null."""
    sections = [one for one in (kind, *get_args(kind)) if isinstance(one, type) and issubclass(one, Section)]
    plain = kind in sections or set(get_args(kind)) == {*sections, type(None)}
    return sections[0] if len(sections) == 1 and plain else None


def _fault(raw: object, kind: Any, where: str) -> Iterator[str]:  # noqa: ANN401 - any type
    try:
        msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `$")
        yield f"{text}{_at(where + path.rstrip('`'))}"


def _at(where: str) -> str:
    return f" - at `${where}`" if where else ""


def changed_keys(one: msgspec.Struct, other: msgspec.Struct, prefix: str = "") -> Iterator[str]:
    """The dotted keys in which two configurations differ; of a section that one of them lacks, its name."""
    for field in msgspec.structs.fields(one):
        before, after = getattr(one, field.name), getattr(other, field.name)
        if before == after:
            continue
        if isinstance(before, msgspec.Struct) and type(before) is type(after):
            yield from changed_keys(before, after, f"{prefix}{field.encode_name}.")
        else:
            yield f"{prefix}{field.encode_name}"


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
