"""A YAML text within bounds: its values, the line of each key, keys twice or without value, and `${NAME}`."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from spillover.common.errors import ConfigError

MAX_BYTES, _MAX_NODES, _MAX_DEPTH = 4 * 1024 * 1024, 250_000, 32
"""Bounds of a file, of its keys and values, and of how deep they are nested; at most 3 s of parsing."""
_LONGEST_NUMBER = 400
"""In characters. YAML's numbers to base 60 take the square of their length to build."""

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C parser takes a fifth of the time
_VARIABLE = re.compile(r"\$\$\{|\$\{([^{}]*)\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPEN = "${"
NO_VALUE = "has no value; write null if none is meant, or leave the key out"
"""Else a section whose keys are all commented out would silently be none, redaction and TLS as well."""

Fault = tuple[str, str]
"""A key, empty for the whole file, and what is wrong."""


@dataclass(frozen=True, slots=True)
class Filled:
    """A text that environment variables have been put into: nobody is to be told its `value`."""

    written: str
    """As it stands in the file."""
    value: str | None
    """None: a variable is not set, which has been told."""


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed text, called `name` in errors."""

    name: str
    text: str
    values: object
    """Plain values, and `Filled` for texts with environment variables."""
    faults: tuple[Fault, ...] = ()
    """Keys that are there twice or without a value, and variables that are not set."""
    lines: dict[str, int] = field(default_factory=dict)
    """Line of each key, from 1 on; filled by the first question."""

    def line(self, key: str) -> int | None:
        """The line of `key`, or of the nearest section around it that is there; None: none is."""
        if not self.lines:
            for name, line, _ in _entries(self.text):
                self.lines.setdefault(name, line)
        while key and key not in self.lines:
            key = key[: max(0, key.rfind("."), key.rfind("["))]
        return self.lines.get(key)

    def place(self, key: str) -> str:
        """File and line of `key`, as in `edge.yaml:3`; the file alone where no line is known."""
        line = self.line(key)
        return f"{self.name}:{line}" if line else self.name


def parse_document(text: str, name: str, environ: Mapping[str, str] | None = None) -> Document:
    """Parse YAML `text`; an empty one is an empty mapping.

    Anchors and aliases are refused: ten lines of them make 10 ** 10 values. `environ` fills `${NAME}` in;
    None: it stays text.

    Raises:
        ConfigError: it is not YAML, has an anchor, a tag or NUL, or is too large or too deep.
    """
    faults: list[Fault] = []
    try:
        faults += [(key, fault) for key, _, fault in _entries(text) if fault]
        raw = yaml.load(text, _LOADER)  # noqa: S506 - one of PyYAML's two safe loaders
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(_no_yaml(name, text, error)) from error
    values: object = {} if raw is None else raw
    if environ is not None and _OPEN in text:
        values = _filled(values, "", environ, faults)
    return Document(name, text, values, tuple(faults))


def under(key: str, step: object) -> str:
    """The key of what is called `step`, or has this number, below `key`."""
    if isinstance(step, int) and not isinstance(step, bool):
        return f"{key}[{step}]"
    return f"{key}.{step}" if key else str(step)


@dataclass(slots=True)
class _Open:
    """A mapping or list whose end has not come yet."""

    key: str
    is_mapping: bool
    count: int = 0
    waiting: str | None = None
    """Of a mapping: the key whose value comes next."""
    seen: dict[str, int] = field(default_factory=dict)
    """Of a mapping: the lines of its keys so far."""

    def next(self, event: yaml.NodeEvent) -> tuple[str, bool]:
        """The key of what begins with `event`, and whether that is a key and no value."""
        if not self.is_mapping:
            self.count += 1
            return f"{self.key}[{self.count - 1}]", False
        if self.waiting is not None:
            key, self.waiting = self.waiting, None
            return key, False
        if not isinstance(event, yaml.ScalarEvent):
            raise _refused("a key must be text", event)
        self.waiting = f"{self.key}.{event.value}" if self.key else event.value
        return self.waiting, True


def _entries(text: str) -> Iterator[tuple[str, int, str]]:
    """Key and line of each key of a mapping and each item of a list, in their order, and what is wrong there.

    A key without a value comes twice, the second time with this fault.

    Raises YAMLError for what is not YAML, would take too long to build, or too deep a stack.
    """
    nodes, around = 0, list[_Open]()
    for event in yaml.parse(text, _LOADER):
        if isinstance(event, yaml.NodeEvent):
            nodes += 1
            if fault := _unread(event):
                raise _refused(fault, event)
            key, is_key = around[-1].next(event) if around else ("", False)
            if is_key:
                yield key, _line(event), _twice(around[-1].seen, key, _line(event))
            elif around and (_is_empty(event) or not around[-1].is_mapping):
                yield key, _line(event), NO_VALUE if _is_empty(event) else ""
        if isinstance(event, yaml.CollectionStartEvent):
            around.append(_Open(key, isinstance(event, yaml.MappingStartEvent)))
        elif isinstance(event, yaml.CollectionEndEvent):
            around.pop()
        if len(around) > _MAX_DEPTH or nodes > _MAX_NODES:
            raise _refused(f"deeper than {_MAX_DEPTH} levels, or more than {_MAX_NODES} values", event)


def _twice(seen: dict[str, int], key: str, line: int) -> str:
    """What is wrong if `key` is among the `seen` already; notes it."""
    before, seen[key] = seen.get(key), line
    return f"is there twice, in lines {before} and {line}; keep one of them" if before is not None else ""


def _is_empty(event: yaml.NodeEvent) -> bool:
    """Whether nothing is written where a value belongs."""
    return isinstance(event, yaml.ScalarEvent) and not event.value and event.implicit[0]


def _unread(event: yaml.NodeEvent) -> str:
    """What `event` has that is not read; empty for nothing. Its text stays untold: it may be a secret."""
    if event.anchor is not None:
        return "anchors and aliases are not read; a text that begins with & or * needs quotes"
    if getattr(event, "tag", None) is not None:
        return "tags are not read; a text that begins with ! needs quotes"
    if not isinstance(event, yaml.ScalarEvent):
        return ""
    if "\0" in event.value:
        return "a text must not hold the character NUL"
    is_number = event.implicit[0] and event.value[:1] in set("+-.0123456789")
    return "a number is too long" if is_number and len(event.value) > _LONGEST_NUMBER else ""


def _refused(problem: str, event: yaml.Event) -> yaml.YAMLError:
    mark: Any = event.start_mark  # the C parser's have a type of their own
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 0


def _no_yaml(name: str, text: str, error: Exception) -> str:
    """One line about what the parser did not take, without the text around it, which may hold a secret."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None)
    if mark is None or problem is None:
        return f"{name}: not valid YAML: {' '.join(str(error).split())}"
    lines = text.splitlines()
    line = lines[mark.line] if mark.line < len(lines) else ""
    hint = ""
    if line[: len(line) - len(line.lstrip())].count("\t"):
        hint = "; indent with spaces, not with tabs"
    elif _OPEN in line:
        hint = "; put texts with ${NAME} in quotes where {...} or [...] are around them"
    return f"{name}:{mark.line + 1}: not valid YAML: {problem}, column {mark.column + 1}{hint}"


def _filled(value: object, key: str, environ: Mapping[str, str], faults: list[Fault]) -> object:
    """`value` with environment variables in its texts; what cannot be filled in goes to `faults`."""
    match value:
        case dict():
            return {name: _filled(one, under(key, str(name)), environ, faults) for name, one in value.items()}
        case list():
            return [_filled(one, under(key, index), environ, faults) for index, one in enumerate(value)]
        case str() if _OPEN in value:
            return _fill(value, key, environ, faults)
    return value


def _fill(text: str, key: str, environ: Mapping[str, str], faults: list[Fault]) -> Filled:
    before = len(faults)

    def put(found: re.Match[str]) -> str:
        name = found[1]
        if name is None:
            return _OPEN
        if not _NAME.fullmatch(name):
            wrong = "no environment variable can have such a name; for the text itself, write $${"
            faults.append((key, f"${{{name}}}: {wrong}"))
        elif name not in environ:
            faults.append((key, f"${{{name}}}: the environment variable {name} is not set"))
        return environ.get(name, "")

    value = _VARIABLE.sub(put, text)
    return Filled(text, value if len(faults) == before else None)
