"""Configuration: typed, frozen, and errors that name file and key."""

import os
from pathlib import Path
from typing import Annotated

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillover.common.config import (
    MAX_BYTES,
    Section,
    faults_of,
    load_config,
    naming,
    parse_config,
    parse_yaml,
)
from spillover.common.errors import ConfigError, SourceError
from spillover.common.home import cache_home, models_home
from spillover.common.net.addresses import check_host_port


class Inner(Section, frozen=True):
    """One key with a range."""

    share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.5


class Outer(Section, frozen=True):
    """A nested section."""

    inner: Inner = Inner()
    name: str = "x"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("inner: {share: 2}", r"\$\.inner\.share"),
        ("inner: {shore: 0.1}", "shore"),
        ("nome: y", "nome"),
        ("name: 3", r"\$\.name"),
        ("- 1", "object"),
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
    with pytest.raises(ConfigError, match=r"t: Expected a finite number - at `\$\.rows\[1\]\.x`"):
        parse_config(f"rows: [1.0, {{x: {number}}}]", Outer, "t")


@pytest.mark.parametrize("text", ["a: [", "a: b: c", "a:\n\t- x", "[" * 5000])
def test_what_is_not_yaml_is_one_line(text: str) -> None:
    """The error fits a log, and names the file."""
    with pytest.raises(ConfigError, match=r"^t: not valid YAML: [^\n]+$"):
        parse_config(text, Outer, "t")


def test_every_mistake_is_told_not_the_first_alone() -> None:
    """Each with its key, in the words of `load_config`; what is good gives none."""
    raw = parse_yaml("nome: y\ninner: {share: 2, shore: 1}\nname: 3", "t")
    assert list(faults_of(raw, Outer)) == [
        "Object contains unknown field `nome`",
        "Object contains unknown field `shore` - at `$.inner`",
        "Expected `float` <= 1.0 - at `$.inner.share`",
        "Expected `str`, got `int` - at `$.name`",
    ]
    assert list(faults_of([], Outer)) == ["Expected `object`, got `array`"]
    assert list(faults_of({}, Outer)) == []


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda inner: st.dictionaries(st.sampled_from(["inner", "share", "name", "x"]), inner),
    )
)
def test_there_are_mistakes_exactly_when_it_cannot_be_read(raw: object) -> None:
    """Whatever is written: the list is empty when `load_config` takes it, and only then."""
    try:
        msgspec.convert(raw, Outer)
    except msgspec.ValidationError:
        assert list(faults_of(raw, Outer))
    else:
        assert not list(faults_of(raw, Outer))


LAUGHS = "\n".join(
    ["a0: &a0 [l, l]", *(f"a{row}: &a{row} [{', '.join([f'*a{row - 1}'] * 10)}]" for row in range(1, 12))]
)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (LAUGHS, "anchors and aliases are not read, such as 'a0'"),
        ("name: &x y", "such as 'x'"),
        ("inner: &again {share: 0.1}\n<<: *again", "such as 'again'"),
        ("name: " + "[" * 40 + "]" * 40, "deeper than 32 levels"),
        ("name: [" + "1," * 260_000 + "]", "more than 250000 values"),
    ],
)
def test_a_few_lines_do_not_become_millions_of_values(text: str, says: str) -> None:
    """Aliases multiply, so none is read; depth and number of values have bounds."""
    with pytest.raises(ConfigError, match=f"^t: not valid YAML: .*{says}"):
        parse_config(text, Outer, "t")


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


def test_an_error_found_in_use_names_the_file_too() -> None:
    """Once, and not where the value came from elsewhere: the command line."""
    with pytest.raises(ConfigError, match=r"^edge\.yaml: policy\.kind"), naming("edge.yaml"):
        raise ConfigError("policy.kind is 'luck'")
    with pytest.raises(SourceError, match=r"^edge\.yaml: camera"), naming("edge.yaml"):
        raise SourceError("camera.source: no such file")
    with pytest.raises(ConfigError, match=r"^edge\.yaml: wrong"), naming("edge.yaml"):
        raise ConfigError("edge.yaml: wrong")
    with pytest.raises(SourceError, match=r"^camera"), naming("edge.yaml", ["camera.source"]):
        raise SourceError("camera.source: no such file")


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1:1", "[::1]:65535", "cloud.example:0", "dns:///cloud.example:443", "unix:/run/spillover"],
)
def test_addresses_of_host_and_port_pass(address: str) -> None:
    """Names, numbers of both kinds, gRPC's resolvers, Unix sockets."""
    check_host_port("address", address)


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "cloud.example", "::1", "cloud.example:", "cloud.example:http", "a:65536", ":"]
)
def test_an_address_without_a_port_says_what_is_wanted(address: str) -> None:
    """The key, the value, and host:port or the highest port are in the message."""
    with pytest.raises(ValueError, match=r"^address: .*(host:port|65535)"):
        check_host_port("address", address)


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    """Every key that has a default may be left out, all of them too."""
    path = tmp_path / "empty.yaml"
    path.write_text("")
    assert load_config(path, Outer) == Outer()


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
