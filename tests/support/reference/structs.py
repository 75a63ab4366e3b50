"""Tables of the keys of a configuration structure, or of the fields of a record."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import inspect

from tests.support.reference.docstrings import first_paragraph, member_docs
from tests.support.reference.markdown import alternatives, slug, table

Structure = inspect.StructType | inspect.DataclassType
Links = Mapping[type, str]
"""Structures that another page explains: the link to it."""

_NAME = re.compile(r"\^\(?\[A-Za-z0-9\]\[A-Za-z0-9\._-\]\{0,(\d+)\}(?:\)\?)?\$")
_CHOICE = re.compile(r"\^\(([a-z|]+)\)\$")
_BOUNDS = (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<="))


def sections(root: type, title: str, links: Links | None = None) -> str:
    """A section for `root` and one for each structure below it, in the order of its keys."""
    found = list(_walk(root, "", links or {}))
    anchors = dict(links or {}) | {kind: f"#{slug(path)}" for kind, path in found if path}
    return "\n\n".join(_section(kind, path or title, anchors) for kind, path in found)


def undocumented(root: type) -> list[str]:
    """Fields of `root`, and of all below it, that have no docstring."""
    return [
        f"{kind.__module__}.{kind.__name__}.{field.name}"
        for kind, _ in _walk(root, "", {})
        for field in _structure(kind).fields
        if field.name not in member_docs(kind)
    ]


def required_keys(root: type) -> dict[str, Any]:
    """The keys that a file must have, as nested mappings."""
    return {
        field.encode_name: required_keys(field.type.cls) if isinstance(field.type, Structure) else None
        for field in _structure(root).fields
        if field.required
    }


def _section(kind: type, heading: str, anchors: Links) -> str:
    structure = _structure(kind)
    rows = [_row(kind, field, anchors) for field in structure.fields]
    if isinstance(structure, inspect.StructType) and structure.tag_field:
        rows.insert(0, (f"`{structure.tag_field}`", f"`{structure.tag}`", "required", "Which kind this is."))
    keys = table(("key", "value", "default", "meaning"), rows)
    return f"## {heading}\n\n{first_paragraph(kind)}\n\n{keys}"


def _row(kind: type, field: inspect.Field, anchors: Links) -> tuple[str, str, str, str]:
    text = "<br>".join((member_docs(kind).get(field.name, ""), *_choices(field.type)))
    return f"`{field.encode_name}`", _type(field.type, anchors), _default(field), text


def _choices(kind: inspect.Type) -> list[str]:
    """What the members of an enum mean, where the source says it."""
    enums = {inner.cls for inner in _parts(kind) if isinstance(inner, inspect.EnumType)}
    return [
        f"`{member.value}`: {text}"
        for found in enums
        for member in found
        if (text := member_docs(found).get(member.name))
    ]


def _type(kind: inspect.Type, anchors: Links) -> str:
    match kind:
        case inspect.UnionType(types=types):
            shown = [t for t in types if not isinstance(t, inspect.NoneType)]
            return " or ".join([_type(t, anchors) for t in shown] + ["null"] * (len(shown) < len(types)))
        case inspect.StructType() | inspect.DataclassType():
            name = f"`{kind.tag}`" if isinstance(kind, inspect.StructType) and kind.tag else "section"
            return f"[{name}]({anchors[kind.cls]})"
        case inspect.TupleType(item_types=items):
            return f"list of {len(items)} {_type(items[0], anchors)}s"
        case inspect.VarTupleType(item_type=item) | inspect.ListType(item_type=item):
            return f"list of {_type(item, anchors)}"
        case inspect.DictType(key_type=key, value_type=value):
            return f"mapping of {_type(key, anchors)} to {_type(value, anchors)}"
    return _scalar(kind)


def _scalar(kind: inspect.Type) -> str:
    match kind:
        case inspect.Metadata():
            return _described(kind)
        case inspect.EnumType(cls=cls):
            return alternatives([f"`{member.value}`" for member in cls])
        case inspect.IntType() | inspect.FloatType():
            return f"{'integer' if isinstance(kind, inspect.IntType) else 'number'}{_bounds(kind)}"
        case inspect.LiteralType(values=values):
            return alternatives([f"`{value}`" for value in values])
        case inspect.NamedTupleType(fields=parts):
            return f"list: {', '.join(part.name for part in parts)}"
    return {inspect.BoolType: "true or false", inspect.StrType: "text"}.get(type(kind), "anything")


def _described(kind: inspect.Metadata) -> str:
    """What a text must look like, in words; names and addresses by what they are called everywhere."""
    words = str((kind.extra_json_schema or {}).get("description", ""))
    pattern = kind.type.pattern if isinstance(kind.type, inspect.StrType) else None
    if pattern and (name := _NAME.fullmatch(pattern)):
        return f"name (up to {int(name[1]) + 1})"
    return "`host:port`" if words.startswith("host:port") else words


def _bounds(kind: inspect.IntType | inspect.FloatType) -> str:
    if kind.ge is not None and kind.le is not None:
        return f" from {kind.ge:g} to {kind.le:g}"
    told = [f"{sign} {bound:g}" for name, sign in _BOUNDS if (bound := getattr(kind, name)) is not None]
    if kind.multiple_of is not None:
        told.append(f"a multiple of {kind.multiple_of:g}")
    return f" {', '.join(told)}" if told else ""


def _default(field: inspect.Field) -> str:
    if field.required:
        return "required"
    if field.default_factory is not msgspec.NODEFAULT:
        return _value(field.default_factory())
    return _value(field.default)


def _value(value: object) -> str:
    plain = _changed(value)
    return "" if plain == {} and not isinstance(value, dict) else f"`{msgspec.json.encode(plain).decode()}`"


def _changed(value: object) -> object:
    """Plain values; of a structure only its kind and what differs from its own defaults."""
    if isinstance(value, msgspec.Struct):
        config, usual = value.__struct_config__, type(value)()
        tag = {config.tag_field: config.tag} if config.tag_field else {}
        names = [n for n in value.__struct_fields__ if getattr(value, n) != getattr(usual, n)]
        return tag | {name: _changed(getattr(value, name)) for name in names}
    if isinstance(value, tuple | list):
        return [_changed(inner) for inner in value]
    return msgspec.to_builtins(value)


def _walk(kind: type, path: str, links: Links, seen: set[type] | None = None) -> Iterator[tuple[type, str]]:
    """Each structure once, with the path of its first key, its own level's before those below.

    Such as `uplink.tls`, `sinks[]`.
    """
    seen = {kind} if seen is None else seen
    yield kind, path
    below: list[tuple[type, str]] = []
    for field in _structure(kind).fields:
        step = f"{path}.{field.encode_name}" if path else field.encode_name
        for inner in _parts(field.type):
            if isinstance(inner, Structure) and inner.cls not in seen and inner.cls not in links:
                seen.add(inner.cls)
                below.append((inner.cls, step + _ending(field.type, inner)))
    for inner_kind, inner_path in below:
        yield from _walk(inner_kind, inner_path, links, seen)


def _ending(kind: inspect.Type, inner: Structure) -> str:
    match kind:
        case inspect.VarTupleType() | inspect.ListType():
            return "[]"
        case inspect.DictType():
            return ".NAME"
        case inspect.UnionType(types=types):
            return next((_ending(t, inner) for t in types if inner in _parts(t)), "")
    return ""


def _parts(kind: inspect.Type) -> list[inspect.Type]:
    """A type, and the types that it is made of."""
    match kind:
        case inspect.Metadata(type=part):
            return _parts(part)
        case inspect.UnionType(types=types):
            inner = list(types)
        case inspect.VarTupleType(item_type=item) | inspect.ListType(item_type=item):
            inner = [item]
        case inspect.DictType(value_type=value):
            inner = [value]
        case _:
            return [kind]
    return [part for each in inner for part in _parts(each)]


def _structure(kind: type) -> Structure:
    found = inspect.type_info(kind)
    if not isinstance(found, Structure):
        raise TypeError(f"{kind} is neither a msgspec structure nor a dataclass")
    return found
