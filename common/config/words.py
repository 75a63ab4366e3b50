"""What a key may be, and what stands there instead, in words."""

import difflib
import enum
import re
from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import inspect

from spillover.common.config.document import Filled
from spillover.common.net.addresses import HIDDEN, without_password

_LONGEST = 60
_SECRET = re.compile(r"(?:^|[._])(?:password|token|secret)$")
_BOUNDS = (("gt", "above"), ("ge", "of at least"), ("lt", "below"), ("le", "of at most"))
_CLOSE = 0.6


def wanted(kind: Any) -> str:  # noqa: ANN401 - any type
    """What a value of the type `kind` is, as in `a number above 0`."""
    return _of(inspect.type_info(kind))


def wrong(value: object, kind: Any, key: str) -> str:  # noqa: ANN401 - any type
    """What is wrong with `value`, which does not fit `kind`, and what would be right."""
    info = inspect.type_info(kind)
    text = f"must be {_of(info)}, not {shown(value, key)}"
    parts = list(_parts(info))
    if not isinstance(value, str) and any(isinstance(one, inspect.StrType) for one in parts):
        if isinstance(value, bool | int | float):
            return f"{text}; put it in quotes"
    elif isinstance(value, str) and _is_number(value) and any(map(_is_numeric, parts)):
        return f"{text}; leave the quotes away"
    if isinstance(value, str):
        text += did_you_mean(value, _choices(parts))
    return text


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean x?` where one of `known` is close to `word`, else empty."""
    close = closest(word, known)
    return f"; did you mean {close}?" if close else ""


def closest(word: str, known: Iterable[str]) -> str | None:
    """The one of `known` that `word` was probably meant to be."""
    plain = {_plain(one): one for one in known}
    found = difflib.get_close_matches(_plain(word[:_LONGEST]), plain, 1, _CLOSE)
    return plain[found[0]] if found else None


def shown(value: object, key: str) -> str:
    """`value` of `key` as it may be shown: no secret, one line, not long."""
    if _SECRET.search(key) and value is not None:
        return f"{HIDDEN} (hidden)"
    match value:
        case Filled():
            return f"what {cut(value.written)} holds"
        case str():
            return repr(cut(without_password(value)))
        case dict() | list():
            return "keys and values" if isinstance(value, dict) else "a list"
        case bool() | None:
            return "empty" if value is None else str(value).lower()
    return cut(str(value))


def cut(text: str) -> str:
    """`text` in one line that is not long."""
    text = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
    return text if text.isprintable() else repr(text)[1:-1]


def listing(words: Sequence[str]) -> str:
    """`a`, `b` or `c`."""
    return " or ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def _plain(word: str) -> str:
    return word.lower().replace("-", "_")


_PLAIN_TYPES = {
    inspect.BoolType: "true or false",
    inspect.StrType: "text",
    inspect.DateTimeType: "a date and time",
}


def _of(info: inspect.Type) -> str:
    match info:
        case inspect.Metadata(type=inner, extra_json_schema=extra):
            return str((extra or {}).get("description") or _of(inner))
        case inspect.UnionType(types=types):
            return _one_of(types)
        case inspect.EnumType() | inspect.LiteralType():
            return listing(_choices([info]))
        case inspect.IntType() | inspect.FloatType():
            return f"a {'whole ' if isinstance(info, inspect.IntType) else ''}number{_bounds(info)}"
    return _of_many(info) or _PLAIN_TYPES.get(type(info), "another value")


def _of_many(info: inspect.Type) -> str:
    """As `_of` for what holds several values; empty for others."""
    match info:
        case inspect.TupleType(item_types=items):
            return f"a list of {len(items)} times {_of(items[0])}"
        case inspect.VarTupleType(item_type=item, min_length=least):
            some = f" with at least {least} item{'s' * (least > 1)}" if least else ""
            return f"a list{some}, each {_of(item)}"
        case inspect.DictType(min_length=least):
            return f"keys and values{f', at least {least}' if least else ''}"
        case inspect.StructType(fields=fields):
            required = [field.encode_name for field in fields if field.required]
            return f"keys and values, among them {', '.join(required)}" if required else "keys and values"
    return ""


def _one_of(types: Sequence[inspect.Type]) -> str:
    tags = [str(one.tag) for one in types if isinstance(one, inspect.StructType) and one.tag]
    if tags:
        return f"keys and values, among them kind: {listing(tags)}"
    some = [_of(one) for one in types if not isinstance(one, inspect.NoneType)]
    return listing([*some, *(["null"] if len(some) < len(types) else [])])


def _bounds(info: inspect.IntType | inspect.FloatType) -> str:
    told = [f"{word} {bound:g}" for name, word in _BOUNDS if (bound := getattr(info, name)) is not None]
    if info.ge is not None and info.le is not None:
        told = [f"from {info.ge:g} to {info.le:g}"]
    if info.multiple_of is not None:
        told.append(f"a multiple of {info.multiple_of:g}")
    return f" {' and '.join(told)}" if told else ""


def _parts(info: inspect.Type) -> Iterable[inspect.Type]:
    match info:
        case inspect.Metadata(type=inner):
            yield from _parts(inner)
        case inspect.UnionType(types=types):
            for one in types:
                yield from _parts(one)
        case _:
            yield info


def _choices(parts: Iterable[inspect.Type]) -> list[str]:
    found: list[str] = []
    for one in parts:
        if isinstance(one, inspect.EnumType):
            found += [str(member.value) for member in one.cls if isinstance(member, enum.Enum)]
        elif isinstance(one, inspect.LiteralType):
            found += [str(value) for value in one.values]
    return found


def _is_numeric(info: inspect.Type) -> bool:
    return isinstance(info, inspect.IntType | inspect.FloatType)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
