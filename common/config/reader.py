"""Turns plain values into a section, key by key, so that one mistake does not hide the next."""

import math
import re
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

from spillover.common.config.document import Fault, Filled, under
from spillover.common.config.section import Mistake, MistakesError, Section
from spillover.common.config.words import closest, listing, wanted, wrong

MAX_FAULTS = 100
"""After so many the rest is not looked for."""
_LARGEST, _LARGEST_WHOLE = 1e9, 10**15
"""No key means a larger number, above or below zero; clocks, queues and libraries fail with such."""


class _Bad:
    """In place of a value that could not be read."""


BAD = _Bad()


class _UnknownError(Exception):
    """A check asks for a key that could not be read."""


class _TooManyError(Exception):
    """There are MAX_FAULTS faults."""


def read(raw: object, kind: type[Section]) -> tuple[object, list[Fault], Mapping[str, Any]]:
    """`raw` as a `kind`, or BAD; what is wrong; and those of its values that are good, defaults included."""
    reader = _Reader(kind)
    try:
        value, good = reader.section(raw, kind, "")
    except _TooManyError:
        value, good = BAD, {}
    return value, reader.faults, good


def may_be_extreme(value: object) -> bool:
    """Whether `value` may hold a number that `_extreme` refuses, once it has its type."""
    match value:
        case float() | int():
            return not -_LARGEST <= value <= _LARGEST
        case dict():
            return any(map(may_be_extreme, value.values()))
        case list() | tuple():
            return any(map(may_be_extreme, value))
    return False


def _extreme(value: object) -> str:
    """What no number in `value` may be, as a sentence; NaN, less than nothing, passes every bound."""
    match value:
        case float() if not math.isfinite(value):
            return "must be a finite number"
        case float() if abs(value) > _LARGEST:
            return f"must be a number from {-_LARGEST:g} to {_LARGEST:g}"
        case int() if abs(value) > _LARGEST_WHOLE:
            return f"must be a whole number of at most {len(str(_LARGEST_WHOLE)) - 1} digits"
        case dict():
            return next(filter(None, map(_extreme, value.values())), "")
        case list() | tuple():
            return next(filter(None, map(_extreme, value)), "")
    return ""


class _Reader:
    def __init__(self, root: type[Section]) -> None:
        self._root = root
        self.faults: list[Fault] = []

    def section(self, raw: object, kind: type[Section], key: str) -> tuple[object, Mapping[str, Any]]:
        """As `read`, of the section at `key`."""
        if not isinstance(raw, dict):
            return self._bad(key, wrong(raw, kind, key)), {}
        before, tag = len(self.faults), kind.__struct_config__.tag_field
        fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
        given = {str(name): value for name, value in raw.items() if name != tag}
        meant = [self._unknown(name, fields, key) for name in given if name not in fields]
        good: dict[str, Any] = {}
        for name, field in fields.items():
            if name in given:
                value = self.value(given[name], field.type, under(key, name))
            elif not field.required:
                value = field.default
                if value is msgspec.NODEFAULT:
                    value = field.default_factory()
            else:
                value = BAD if name in meant else self._missing(under(key, name), field.type)
            if value is not BAD:
                good[field.name] = value
        built: object = BAD
        if len(good) == len(fields):
            built = self._checked(lambda: kind(**good), kind, key)
        else:
            self._check_in_part(kind, good, key)
        return (built if len(self.faults) == before else BAD), good

    def value(self, raw: object, kind: Any, key: str) -> object:  # noqa: ANN401 - one for each shape
        """`raw` as a `kind`, or BAD."""
        if isinstance(raw, Filled) and raw.value is None:
            return BAD
        inner, metas = _plain(kind)
        origin, args = get_origin(inner), get_args(inner)
        if _is_section(inner):
            return self.section(raw, inner, key)[0]
        if origin in {Union, types.UnionType}:
            return self._one_of(raw, kind, args, key)
        if origin is tuple and args[1:] == (...,) and isinstance(raw, list):
            items = [self.value(one, args[0], under(key, index)) for index, one in enumerate(raw)]
            good = not any(one is BAD for one in items)
            return self._bounded(tuple(items), kind, metas, key) if good else BAD
        if origin in {dict, Mapping} and isinstance(raw, dict):
            return self._mapping(raw, kind, key)
        return self._leaf(raw, kind, key)

    def _one_of(self, raw: object, kind: Any, args: Iterable[Any], key: str) -> object:  # noqa: ANN401
        if raw is None and type(None) in args:
            return None
        others = [one for one in args if one is not type(None)]
        if len(others) == 1 and isinstance(raw, list | dict):
            return self.value(raw, others[0], key)
        sections = [one for one in others if _is_section(one)]
        if isinstance(raw, dict) and len(sections) == 1:
            return self.section(raw, sections[0], key)[0]
        if isinstance(raw, dict) and sections == others:
            return self._tagged(raw, {one.__struct_config__.tag: one for one in others}, key)
        return self._leaf(raw, kind, key)

    def _mapping(self, raw: dict[Any, Any], kind: Any, key: str) -> object:  # noqa: ANN401
        inner, metas = _plain(kind)
        of_name, of_value = get_args(inner)
        found: dict[object, object] = {}
        for name, one in raw.items():
            place = under(key, str(name))
            found[self.value(name, of_name, place)] = self.value(one, of_value, place)
        if any(BAD in pair for pair in found.items()):
            return BAD
        return self._bounded(found, kind, metas, key)

    def _tagged(self, raw: dict[Any, Any], kinds: Mapping[Any, type[Section]], key: str) -> object:
        """The section of the kind that `raw` says itself."""
        name = str(next(iter(kinds.values())).__struct_config__.tag_field)
        choice: Any = Literal.__getitem__(tuple(kinds))
        if name not in raw:
            return self._missing(under(key, name), choice)
        tag = raw[name].value if isinstance(raw[name], Filled) else raw[name]
        if not (isinstance(tag, str) and tag in kinds):
            return self._bad(under(key, name), wrong(tag, choice, under(key, name)))
        return self.section(raw, kinds[tag], key)[0]

    def _bounded(self, value: object, kind: Any, metas: Iterable[Any], key: str) -> object:  # noqa: ANN401
        """`value`, a list or mapping of good values, if it has not too few."""
        shell: Any = tuple[Any, ...] if isinstance(value, tuple) else dict[Any, Any]
        for meta in metas:
            shell = Annotated[shell, meta]
        try:
            msgspec.convert(value, shell)
        except msgspec.ValidationError:
            return self._bad(key, wrong(list(value) if isinstance(value, tuple) else value, kind, key))
        return value

    def _leaf(self, raw: object, kind: Any, key: str) -> object:  # noqa: ANN401
        filled: list[Filled] = []
        plain = _unfilled(raw, filled)
        try:
            # What the environment holds is text: "8883" is a port as well.
            value = msgspec.convert(plain, kind, strict=not filled)
        except msgspec.ValidationError as error:
            cause = error.__cause__
            return self._bad(key, str(cause) if isinstance(cause, ValueError) else wrong(raw, kind, key))
        if fault := _extreme(value):
            return self._bad(key, fault)
        return value

    def _unknown(self, name: str, fields: Iterable[str], key: str) -> str | None:
        """Tell that no key is called so; the key that is probably meant."""
        meant, place = closest(name, fields), under(key, name)
        if meant:
            self._bad(place, f"there is no such key; did you mean {under(key, meant)}?")
            return meant
        elsewhere = [one for one in keys_of(self._root, "") if one.rpartition(".")[2] == name]
        if elsewhere and len(elsewhere) <= 3:  # a name in more places says little
            self._bad(place, f"there is no such key here; did you mean {listing(elsewhere)}?")
        else:
            self._bad(place, f"there is no such key; possible are {', '.join(fields)}")
        return None

    def _missing(self, key: str, kind: Any) -> _Bad:  # noqa: ANN401
        return self._bad(key, f"is missing; must be {wanted(kind)}")

    def _checked(self, build: Callable[[], object], kind: type[Section], key: str) -> object:
        """What `build` gives, or BAD with what is wrong with it."""
        try:
            return build()
        except MistakesError as error:
            self._tell(error.found, key)
        except ValueError as error:
            self._tell([_split(str(error), kind)], key)
        return BAD

    def _check_in_part(self, kind: type[Section], good: Mapping[str, Any], key: str) -> None:
        """Run the checks that need no more than what is good."""
        part: Any = _Part(kind, good)
        with suppress(_UnknownError):  # of `checks` itself, which had better be all generators
            for check in kind.checks(part):
                with suppress(_UnknownError):
                    self._tell(list(check), key)

    def _tell(self, found: Iterable[Mistake], key: str) -> None:
        for step, text in found:
            self._bad(under(key, step) if step else key, text)

    def _bad(self, key: str, text: str) -> _Bad:
        self.faults.append((key, text))
        if len(self.faults) >= MAX_FAULTS:
            self.faults.append(("", f"more mistakes than {MAX_FAULTS}; the rest is not told"))
            raise _TooManyError
        return BAD


class _Part:
    """A section of which not every key could be read."""

    def __init__(self, kind: type[Section], good: Mapping[str, Any]) -> None:
        self._kind = kind
        self._good = good

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        if name in self._good:
            return self._good[name]
        if name in self._kind.__struct_fields__:
            raise _UnknownError(name)
        found = getattr(self._kind, name)
        if isinstance(found, property):
            return found.fget(self) if found.fget else None
        return types.MethodType(found, self)


def _plain(kind: Any) -> tuple[Any, tuple[Any, ...]]:  # noqa: ANN401
    """`kind` without what `Annotated` says of it, and that."""
    return (kind.__origin__, kind.__metadata__) if get_origin(kind) is Annotated else (kind, ())


def _is_section(kind: Any) -> bool:  # noqa: ANN401
    return isinstance(kind, type) and issubclass(kind, Section)


def _unfilled(value: object, filled: list[Filled]) -> object:
    """`value` with the texts in place of each `Filled`, which are added to `filled`."""
    match value:
        case Filled():
            filled.append(value)
            return value.value
        case dict():
            return {name: _unfilled(one, filled) for name, one in value.items()}
        case list():
            return [_unfilled(one, filled) for one in value]
    return value


_KEY_FIRST = re.compile(r"([a-z_]\w*)((?:\.\w+|\[\d+\])*)(?:: )(.+)", re.DOTALL)


def _split(text: str, kind: type[Section]) -> Mistake:
    """The key that `text` begins with, if it is one of `kind`, and the rest."""
    found = _KEY_FIRST.fullmatch(text)
    if found and found[1] in kind.__struct_fields__:
        return f"{found[1]}{found[2]}", found[3]
    return "", text


def keys_of(kind: Any, key: str) -> Iterator[str]:  # noqa: ANN401
    """Every key of the sections in `kind`; an item of a list is `[]`."""
    inner, _ = _plain(kind)
    if not _is_section(inner):
        ending = "[]" if get_origin(inner) is tuple else ""
        if get_origin(inner) not in {dict, Mapping}:  # whose names are anybody's
            for one in get_args(inner):
                yield from keys_of(one, f"{key}{ending}")
        return
    for field in msgspec.structs.fields(inner):
        yield under(key, field.encode_name)
        yield from keys_of(field.type, under(key, field.encode_name))
