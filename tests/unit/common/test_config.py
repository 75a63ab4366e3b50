"""Configuration: typed, frozen, and errors that name file and key."""

from pathlib import Path
from typing import Annotated

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.config import Section, load_config, parse_config
from common.errors import ConfigError
from common.home import cache_home, models_home


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
