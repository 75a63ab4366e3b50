"""Configuration: typed, frozen, and errors that name file and key."""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import inspect

from spillover.cloud.config import CloudConfig
from spillover.common.config import (
    MAX_BYTES,
    Mistake,
    Section,
    convert_config,
    examine_config,
    examine_values,
    load_config,
    parse_config,
    read_config,
)
from spillover.common.config.reader import MAX_FAULTS, keys_of, may_be_extreme, read
from spillover.common.errors import ConfigError, ModelError, SourceError
from spillover.common.home import cache_home, models_home
from spillover.common.model.exit import ExitInfo
from spillover.common.model.manifest import Manifest
from spillover.common.model.split import SplitPlan
from spillover.common.net.addresses import address_fault
from spillover.common.security.tokens import TokenFile
from spillover.edge.config import EdgeConfig
from spillover.lab.loadtest.config import LoadConfig


class Inner(Section, frozen=True):
    """One key with a range."""

    share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.5


class Outer(Section, frozen=True):
    """A nested section."""

    inner: Inner = Inner()
    name: str = "x"


class First(Section, frozen=True, tag_field="kind", tag="x"):
    """One of two kinds."""

    share: float = 0.0


class Second(Section, frozen=True, tag_field="kind", tag="y"):
    """The other one."""

    name: str


class Rows(Section, frozen=True):
    """Every shape that a value may have."""

    rows: tuple[dict[str, float], ...] = ()
    one: First | Second | None = None
    x: Annotated[tuple[First | Second, ...], msgspec.Meta(min_length=1)] | None = None
    pair: tuple[int, int] = (0, 0)
    name: str | int = 0
    share: Literal["a", "b"] = "a"

    def checks(self) -> Iterable[Iterable[Mistake]]:
        """Two rules."""
        return self._unlike(), self._shorter()

    def _unlike(self) -> Iterator[Mistake]:
        if self.pair == (1, 1):
            yield "pair", "must differ"

    def _shorter(self) -> Iterator[Mistake]:
        if self.name == "xx" and self.share == "b":
            yield "name", "not with b"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("inner: {share: 2}", r":1: inner\.share: must be a number from 0 to 1, not 2$"),
        ("inner: {shore: 0.1}", r":1: inner\.shore: there is no such key; did you mean inner\.share\?$"),
        ("\nnome: y", r":2: nome: there is no such key; did you mean name\?$"),
        ("name: 3", r":1: name: must be text, not 3; put it in quotes$"),
        ("- 1", r"edge\.yaml: must be keys and values, not a list$"),
        ("a: [", "not valid YAML"),
    ],
)
def test_an_error_names_file_and_key(tmp_path: Path, text: str, named: str) -> None:
    """Whoever wrote the file is told where to look."""
    path = tmp_path / "edge.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=named) as caught:
        load_config(path, Outer)
    assert "edge.yaml" in str(caught.value)


@pytest.mark.parametrize("number", [".nan", ".inf", "-.inf"])
def test_a_number_that_is_none_is_refused(number: str) -> None:
    """NaN is outside of no range and infinity inside many: both are refused, wherever they stand."""
    with pytest.raises(ConfigError, match=r"^t:2: rows\[1\]\.x: must be a finite number$"):
        parse_config(f"rows: [{{x: 1}},\n{{x: {number}}}]", Rows, "t")


@pytest.mark.parametrize("text", ["a: [", "a: b: c", "a:\n\t- x", "[" * 5000])
def test_what_is_not_yaml_is_one_line(text: str) -> None:
    """The error fits a log, and names the file."""
    with pytest.raises(ConfigError, match=r"^t(:\d+)?: not valid YAML: [^\n]+$"):
        parse_config(text, Outer, "t")


def test_every_mistake_is_told_not_the_first_alone() -> None:
    """Each with its line and key, in the order of lines, in one error."""
    with pytest.raises(ConfigError) as caught:
        parse_config("nome: y\ninner:\n  share: 2\n  other: 1\nname: 3\nname: x", Outer, "t")
    assert str(caught.value).splitlines() == [
        "t:1: nome: there is no such key; did you mean name?",
        "t:3: inner.share: must be a number from 0 to 1, not 2",
        "t:4: inner.other: there is no such key; possible are share",
        "t:5: name: is there twice, in lines 5 and 6; keep one of them",
    ]
    assert examine_values([], Outer, "t").mistakes == ("t: must be keys and values, not a list",)
    assert examine_values({}, Outer, "t").config == Outer()


NAMES = ("inner", "share", "name", "x", "rows", "kind", "one", "pair")
VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=5) | st.sampled_from(["x", "y", 0.5, "b"]),
    lambda inner: st.dictionaries(st.sampled_from(NAMES), inner) | st.lists(inner, max_size=2),
)


@given(VALUES, st.sampled_from([Outer, Rows]))
def test_there_are_mistakes_exactly_when_it_cannot_be_read(raw: object, kind: type[Section]) -> None:
    """Whatever is written: the list is empty when msgspec takes it, and only then; and the value is its."""
    try:
        whole = msgspec.convert(raw, kind)
    except msgspec.ValidationError:
        examined = examine_values(raw, kind, "t")
        assert examined.mistakes
        assert examined.config is None
    else:
        assert read(raw, kind)[:2] == (whole, [])


LAUGHS = "\n".join(
    ["a0: &a0 [l, l]", *(f"a{row}: &a{row} [{', '.join([f'*a{row - 1}'] * 10)}]" for row in range(1, 12))]
)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (LAUGHS, "anchors and aliases are not read"),
        ("name: &x y", "anchors and aliases are not read"),
        ("inner: &again {share: 0.1}\n<<: *again", "anchors and aliases are not read"),
        ("name: " + "[" * 40 + "]" * 40, "deeper than 32 levels"),
        ("name: [" + "1," * 260_000 + "]", "more than 250000 values"),
    ],
)
def test_a_few_lines_do_not_become_millions_of_values(text: str, says: str) -> None:
    """Aliases multiply, so none is read; depth and number of values have bounds."""
    with pytest.raises(ConfigError, match=rf"^t(:\d+)?: not valid YAML: .*{says}"):
        parse_config(text, Outer, "t")


@pytest.mark.parametrize(
    "number", ["0x" + "f" * 6000, "-" + "9" * 6000, "1" + ":59" * 20_000, "1." + "0" * 6000]
)
def test_a_number_of_thousands_of_digits_is_refused_at_once(number: str) -> None:
    """Python cannot show it, and one to base 60 takes minutes to build; it ended in a traceback."""
    for key in ("name", "inner"):
        with pytest.raises(ConfigError, match=r"^t:1: not valid YAML: a number is too long"):
            parse_config(f"{key}: {number}", Outer, "t")


@pytest.mark.parametrize("text", ["*hunter2", "&hunter2", "&hunter2 x", "!hunter2", "!!int hunter2"])
def test_a_secret_that_yaml_takes_for_syntax_is_not_told(text: str) -> None:
    """A password without quotes may begin with a sign that means something."""
    with pytest.raises(ConfigError, match="needs quotes") as told:
        parse_config(f"name: {text}\n", Outer, "t")
    assert "hunter2" not in str(told.value)


def test_the_character_nul_is_refused() -> None:
    """No path, topic or argument can hold it, and each use would fail in its own way."""
    with pytest.raises(ConfigError, match=r"^t:1: not valid YAML: a text must not hold the character NUL"):
        parse_config('name: "a\\0b"', Outer, "t")


def test_numbers_that_no_clock_or_library_takes_are_refused() -> None:
    """A wait of 1e18 s overflows; so each key has a bound, whether the number is written whole or not."""
    for number in ("1.0e+10", "10000000000", "-1.0e+300"):
        with pytest.raises(ConfigError, match=r"^t:1: rows\[0\].x: must be a number from -1e\+09 to 1e\+09"):
            parse_config(f"rows: [{{x: {number}}}]", Rows, "t")
    with pytest.raises(ConfigError, match=r"pair.*must be a whole number of at most 15 digits"):
        parse_config(f"pair: [0, {10**16}]", Rows, "t")
    assert parse_config("pair: [0, 1000000000000]", Rows, "t").pair[1] == 10**12


def test_a_configuration_is_a_regular_file_of_bounded_size(tmp_path: Path) -> None:
    """A pipe would be waited for; both are refused by name."""
    path = tmp_path / "edge.yaml"
    path.write_bytes(b" " * (MAX_BYTES + 1))
    with pytest.raises(ConfigError, match=r"edge\.yaml: cannot be read: has 4194305 bytes"):
        load_config(path, Outer)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ConfigError, match=r"edge\.yaml: cannot be read: is not a regular file"):
        load_config(path, Outer)


def test_an_error_found_in_use_names_file_and_line_too(tmp_path: Path) -> None:
    """Once, by the key that it begins with, and not where the value came from elsewhere: the command line."""
    path = tmp_path / "edge.yaml"
    path.write_text("name: y\n\ninner:\n  share: 0.1\n")
    file = read_config(path, Outer)
    for error, says in (
        (ConfigError("inner.share: is 'luck'"), f"{path}:4: inner.share: is 'luck'"),
        (ConfigError("inner.other[3]: is 'luck'"), f"{path}:3: inner.other[3]: is 'luck'"),
        (SourceError("name is no file"), f"{path}:1: name is no file"),
        (ModelError("name: no model"), f"{path}:1: name: no model"),
        (ModelError("models/x: damaged"), "models/x: damaged"),
        (ConfigError("something is wrong"), f"{path}: something is wrong"),
        (ConfigError(f"{path}: wrong"), f"{path}: wrong"),
        (SourceError("elsewhere.x: wrong"), "elsewhere.x: wrong"),
    ):
        with pytest.raises(type(error)) as caught, file.naming(["elsewhere.x"]):
            raise error
        assert str(caught.value) == says


def test_what_keys_must_fulfil_together_is_told_in_spite_of_other_mistakes() -> None:
    """Each rule stands alone: only one that needs a key that cannot be read is left out."""
    with pytest.raises(ConfigError) as caught:
        convert_config({"pair": [1, 1], "name": "xx", "share": "c", "rows": 3}, Rows, "t")
    assert str(caught.value).splitlines() == [
        "t: rows: must be a list, each keys and values, not 3",
        "t: share: must be a or b, not 'c'",
        "t: pair: must differ",
    ]


def test_not_more_mistakes_are_told_than_a_person_reads() -> None:
    """A file of another kind, however long, costs little."""
    with pytest.raises(ConfigError) as caught:
        parse_config("\n".join(f"key{number}: 1" for number in range(9000)), Outer, "t")
    assert len(str(caught.value).splitlines()) == MAX_FAULTS + 1


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1:1", "[::1]:65535", "cloud.example:0", "dns:///cloud.example:443", "unix:/run/spillover"],
)
def test_addresses_of_host_and_port_pass(address: str) -> None:
    """Names, numbers of both kinds, gRPC's resolvers, Unix sockets."""
    assert not address_fault(address)


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "cloud.example", "::1", "cloud.example:", "cloud.example:http", "a:65536", ":"]
)
def test_an_address_without_a_port_says_what_is_wanted(address: str) -> None:
    """The value, and host:port or the highest port are in the message."""
    assert re.search("host:port|65535", address_fault(address))


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    """Every key that has a default may be left out, all of them too."""
    path = tmp_path / "empty.yaml"
    path.write_text("")
    assert load_config(path, Outer) == Outer()


def _nested(key: str, value: str) -> str:
    """YAML with `value` at `key` and nothing else; `a[].b` is in the first item of a list."""
    first, _, rest = key.partition(".")
    if not rest:
        return f"{first}: {value}"
    below = _nested(rest, value).replace("\n", "\n    ")
    return f"{first.removesuffix('[]')}:\n  {'- ' if first.endswith('[]') else '  '}{below}"


@pytest.mark.parametrize("kind", [EdgeConfig, CloudConfig, Manifest])
def test_a_key_without_a_value_is_told(tmp_path: Path, kind: type[Section]) -> None:
    """Whatever the key: commenting out all of `redaction` or `tls` must not switch it off unsaid.

    A written null is a value where the key may have none, and told where it may not.
    """
    path, keys = tmp_path / "t.yaml", sorted({*keys_of(kind, "")})

    def told(key: str, value: str) -> list[str]:
        path.write_text(_nested(key, value))
        named = f": {key.replace('[]', '[0]')}: "
        return [one for one in examine_config(path, kind).mistakes if named in one]

    empty = {key: told(key, "") for key in keys}
    assert [key for key, mistakes in empty.items() if len(mistakes) != 1] == []
    may_be_none = [key for key, mistakes in empty.items() if "write null if none is meant" in mistakes[0]]
    assert may_be_none == [key for key in keys if not told(key, "null")]


def test_an_empty_text_in_quotes_is_a_value() -> None:
    """Only where nothing is written is anything missing; that goes for items of a list too."""
    assert parse_config("name: ''", Outer, "t").name == ""
    with pytest.raises(ConfigError, match=r"^t:3: rows\[1\]: must be keys and values, not empty$"):
        parse_config("rows:\n- x: 1\n-", Rows, "t")


def test_an_absent_or_binary_file_is_a_config_error(tmp_path: Path) -> None:
    """Files that cannot be read are named."""
    with pytest.raises(ConfigError, match=r"no\.yaml"):
        load_config(tmp_path / "no.yaml", Outer)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"binary\.yaml"):
        load_config(tmp_path / "binary.yaml", Outer)


@given(st.text(max_size=60))
def test_any_text_is_a_value_or_a_config_error(text: str) -> None:
    """Nothing in a configuration file crashes the program."""
    try:
        parsed = parse_config(text, Outer, "t")
    except ConfigError:
        return
    assert isinstance(parsed, Outer)


def test_sections_cannot_be_changed() -> None:
    """A configuration is a value."""
    with pytest.raises(AttributeError):
        Outer().name = "y"  # type: ignore[misc]


def test_the_cache_folder_follows_the_environment() -> None:
    """$SPILLOVER_HOME first, then the XDG folder, then the user's cache."""
    assert cache_home({"SPILLOVER_HOME": "/a/b"}) == Path("/a/b")
    assert models_home({"SPILLOVER_HOME": "/a/b"}) == Path("/a/b/models")
    assert cache_home({}).name == "spillover"


BASES: dict[type[Section], dict[str, object]] = {
    EdgeConfig: {"camera": {"source": "v"}, "model": {"folder": "m"}},
    CloudConfig: {},
    LoadConfig: {
        "modes": {"a": {}},
        "links": {"l": {}},
        "scenarios": {"s": {"modes": ["a"], "links": ["l"]}},
    },
    Manifest: {
        "name": "a",
        "version": "1",
        "task": "t",
        "input": {"height": 1, "width": 1},
        "output": {"decoder": "x"},
        "sha256": "0" * 64,
    },
}
ANYTHING = st.sampled_from(
    [None, True, 0, 1, -1, 2.5, "", "x", "s", "jsonl", "mqtt", "hybrid", "1.2.3.4:5", "unix:/x", 10**30]
)


@pytest.mark.parametrize("root", BASES)
@given(st.data())
def test_every_file_is_read_or_refused_like_msgspec_does(root: type[Section], data: st.DataObject) -> None:
    """With keys of that file in any place and any values: no mistake is missed, none is made up.

    But for numbers that no clock or library takes: msgspec does.
    """
    names = st.sampled_from(sorted({key.rpartition(".")[2] for key in keys_of(root, "")} | {"kind", "zzz"}))
    nested = st.recursive(
        ANYTHING, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(names, inner), max_leaves=12
    )
    top = st.sampled_from([field.encode_name for field in msgspec.structs.fields(root)])
    raw = BASES[root] | data.draw(st.dictionaries(top, nested, max_size=3))
    try:
        whole = msgspec.convert(raw, root)
    except msgspec.ValidationError:
        assert examine_values(raw, root, "t").mistakes
    else:
        assert read(raw, root)[:2] == (whole, []) or may_be_extreme(raw)


@pytest.mark.parametrize("root", [*BASES, SplitPlan, ExitInfo, TokenFile])
def test_no_message_is_a_pattern_for_machines(root: type[Section]) -> None:
    """What a text must look like stands beside its pattern in words, wherever there is one."""
    assert [
        name for name, part in _leaves(inspect.type_info(root), "") if getattr(part, "pattern", None)
    ] == []


def _leaves(kind: inspect.Type, name: str) -> Iterator[tuple[str, inspect.Type]]:
    """Every type below `kind` that is no container and is not described in words, with its key."""
    match kind:
        case inspect.Metadata(type=inner, extra_json_schema=extra) if not (extra or {}).get("description"):
            yield from _leaves(inner, name)
        case inspect.UnionType(types=types):
            for one in types:
                yield from _leaves(one, name)
        case inspect.VarTupleType(item_type=item):
            yield from _leaves(item, f"{name}[]")
        case inspect.DictType(key_type=key, value_type=value):
            yield from _leaves(key, name)
            yield from _leaves(value, f"{name}.NAME")
        case inspect.StructType(fields=fields):
            for field in fields:
                yield from _leaves(field.type, f"{name}.{field.name}")
        case inspect.Metadata():
            return
        case _:
            yield name, kind
