"""Configuration files: read whole, with every mistake in one error; and the places of errors found later."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from spillover.common.config.document import MAX_BYTES, NO_VALUE, Document, Fault, Filled, parse_document
from spillover.common.config.reader import may_be_extreme, read
from spillover.common.config.section import Section
from spillover.common.errors import ConfigError, ModelError, SourceError
from spillover.common.files import read_regular

T = TypeVar("T", bound=Section)

_KEY = re.compile(r"([A-Za-z_]\w*)(?:\[\d+\]|\.[\w-]+)*(?=[:, ])")


@dataclass(frozen=True, slots=True)
class _Located:
    """What tells the places of errors that are found when a value is used."""

    document: Document
    kind: type[Section]

    def locate(self, text: str) -> str:
        """`text` after file and line, if it begins with one of the file's possible keys; else as it is."""
        found = _KEY.match(text)
        if found and found[1] in self.kind.__struct_fields__:
            return f"{self.document.place(found[0])}: {text}"
        return text


@dataclass(frozen=True, slots=True)
class ConfigFile(_Located, Generic[T]):
    """A configuration without mistakes, and where it came from."""

    config: T

    @contextmanager
    def naming(self, elsewhere: Sequence[str] = ()) -> Iterator[None]:
        """Put file and line before errors that only show when a value is used.

        Not before those that begin with a key in `elsewhere`: its value did not come from the file.
        """
        try:
            yield
        except (ConfigError, SourceError, ModelError) as error:
            text = str(error)
            if text.startswith((self.document.name, *elsewhere)):
                raise
            located = self.locate(text)
            if located == text and not isinstance(error, ModelError):  # that names its own folder
                located = f"{self.document.name}: {text}"
            raise type(error)(located) from error


@dataclass(frozen=True, slots=True)
class Examined(_Located, Generic[T]):
    """What a file holds, mistakes and all."""

    config: T | None
    """None: there are mistakes."""
    mistakes: tuple[str, ...]
    """Each with file, line and key, in the order of lines."""
    good: Mapping[str, Any]
    """The values of the root's keys that have no mistake, defaults included."""


@contextmanager
def under_key(key: str) -> Iterator[None]:
    """Put `key` before errors of what the value of this key names: a file, a model folder."""
    try:
        yield
    except (ConfigError, ModelError) as error:
        text = str(error)
        if text.startswith(key):
            raise
        raise type(error)(f"{key}: {text}") from error


def load_config(path: Path, kind: type[T]) -> T:
    """Read `path` as YAML into `kind`.

    Raises:
        ConfigError: the file is absent, not a regular file, too large, or not YAML; or for all mistakes in
            it, a line each: keys that are unknown, missing, or there twice, values that do not fit,
            environment variables that are not set, as in ``edge.yaml:3: policy.threshold: must be ...``.
    """
    return read_config(path, kind).config


def read_config(path: Path, kind: type[T]) -> ConfigFile[T]:
    """As `load_config`, with what tells the places of errors later on."""
    return _whole(examine_config(path, kind))


def no_file(config: T) -> ConfigFile[T]:
    """`config` that came from no file."""
    return ConfigFile(Document("", "", {}), type(config), config)


def parse_config(text: str, kind: type[T], name: str, environ: Mapping[str, str] | None = None) -> T:
    """Read YAML `text`, called `name` in errors, into `kind`. Raises ConfigError as `load_config` does.

    `environ` is in place of the process's environment.
    """
    return _whole(_examine(text, kind, name, environ)).config


def convert_config(values: object, kind: type[T], name: str) -> T:
    """`values` that came from no file as a `kind`. Raises ConfigError, all mistakes in one, after `name`."""
    return _whole(examine_values(values, kind, name)).config


def examine_values(values: object, kind: type[T], name: str) -> Examined[T]:
    """As `examine_config`, of values that came from no file."""
    return _examine_document(Document(name, "", values), kind)


def examine_config(path: Path, kind: type[T]) -> Examined[T]:
    """Read `path`, mistakes and all.

    Raises:
        ConfigError: the file is absent, not a regular file, too large, or not YAML.
    """
    try:
        text = read_regular(path, MAX_BYTES).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {getattr(error, 'strerror', '') or error}") from error
    return _examine(text, kind, str(path), None)


def _examine(text: str, kind: type[T], name: str, environ: Mapping[str, str] | None) -> Examined[T]:
    variables = (os.environ if environ is None else environ) if kind.reads_environment else None
    return _examine_document(parse_document(text, name, variables), kind)


def _examine_document(document: Document, kind: type[T]) -> Examined[T]:
    if not (document.faults or may_be_extreme(document.values) or _has_filled(document.values)):
        with suppress(msgspec.ValidationError):  # what follows tells everything that is wrong
            whole = msgspec.convert(document.values, kind)
            return Examined(
                document, kind, whole, (), {key: getattr(whole, key) for key in kind.__struct_fields__}
            )
    value, faults, good = read(document.values, kind)
    told = {(key, NO_VALUE) for key, _ in faults}  # already, and with what would be right
    mistakes = _told([*(fault for fault in document.faults if fault not in told), *faults], document)
    config = value if isinstance(value, kind) and not mistakes else None
    return Examined(document, kind, config, mistakes, good)


def _whole(examined: Examined[T]) -> ConfigFile[T]:
    if examined.config is None:
        raise ConfigError("\n".join(examined.mistakes))
    return ConfigFile(examined.document, examined.kind, examined.config)


def _told(faults: Sequence[Fault], document: Document) -> tuple[str, ...]:
    """The faults as sentences, each once, in the order of lines."""
    lines = {fault: document.line(fault[0]) or 0 for fault in faults}
    return tuple(
        f"{document.place(key)}: {f'{key}: ' if key else ''}{text}"
        for key, text in sorted(lines, key=lambda fault: lines[fault])
    )


def _has_filled(value: object) -> bool:
    match value:
        case Filled():
            return True
        case dict():
            return any(map(_has_filled, value.values()))
        case list():
            return any(map(_has_filled, value))
    return False
