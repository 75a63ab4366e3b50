"""`${NAME}` in configurations: what is filled in, what is refused, and that nobody is told it."""

from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spillover.common.config import Section, load_config, parse_config
from spillover.common.errors import ConfigError
from spillover.edge.camera.open import source_of
from spillover.edge.config import CameraConfig


class Filled(Section, frozen=True):
    """A root that reads the environment."""

    reads_environment: ClassVar[bool] = True

    text: str = ""
    port: int = 0
    truth: bool = False
    share: float = 0.0
    names: tuple[str, ...] = ()
    password: int = 0


class Plain(Section, frozen=True):
    """A root that does not."""

    text: str = ""


ENVIRON = {
    "A": "x",
    "PORT": "8883",
    "YES": "true",
    "EMPTY": "",
    "HALF": "0.5",
    "INF": "inf",
    "YAML": "{a: 1}",
}


def read(text: str) -> Filled:
    """`text` with that environment."""
    return parse_config(text, Filled, "t", ENVIRON)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("text: ${A}", Filled(text="x")),
        ("text: a${A}b${PORT}c", Filled(text="axb8883c")),
        ("text: '[${EMPTY}]'", Filled(text="[]")),
        ("text: $${A}", Filled(text="${A}")),
        ("text: $$${A}", Filled(text="$${A}")),
        ("text: $A and ${A}", Filled(text="$A and x")),
        ("text: ${PORT}", Filled(text="8883")),
        ("text: ${YAML}", Filled(text="{a: 1}")),
        ("port: ${PORT}", Filled(port=8883)),
        ("truth: ${YES}", Filled(truth=True)),
        ("share: ${HALF}", Filled(share=0.5)),
        ("names: ['${A}', y]", Filled(names=("x", "y"))),
    ],
)
def test_variables_are_filled_in(text: str, value: Filled) -> None:
    """In texts and parts of texts; where another type is wanted, it is read as that; `$${` is `${`."""
    assert read(text) == value


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("text: ${B}", "t:1: text: ${B}: the environment variable B is not set"),
        ("names:\n  - a\n  - ${B}", "t:3: names[1]: ${B}: the environment variable B is not set"),
        ("port: ${B}", "t:1: port: ${B}: the environment variable B is not set"),
        ("text: ${a-b}", "t:1: text: ${a-b}: no environment variable can have such a name; for the text"),
        ("text: ${}", "t:1: text: ${}: no environment variable can have such a name"),
        ("port: ${A}", "t:1: port: must be a whole number, not what ${A} holds"),
        ("share: ${INF}", "t:1: share: must be a finite number"),
        ("{text: ${A}}", "put texts with ${NAME} in quotes where {...} or [...] are around them"),
    ],
)
def test_what_cannot_be_filled_in_is_one_mistake(text: str, says: str) -> None:
    """It names key and variable; the value of a variable is not told."""
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert says in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "text", ["password: s3cret", "port: 'rtsp://u:s3cret@h'", "port: ${S}", "text: [s3cret", "truth: ${S}x"]
)
def test_secrets_are_not_told(text: str) -> None:
    """Neither what a key for a secret holds, nor a password in a URL, nor what a variable holds."""
    with pytest.raises(ConfigError) as caught:
        parse_config(text, Filled, "t", {"S": "s3cret"})
    assert "s3cret" not in str(caught.value)


def test_a_file_of_others_is_left_as_it_is() -> None:
    """A model's texts go to callers, who must not read the environment by them."""
    assert parse_config("text: ${A}", Plain, "t", ENVIRON).text == "${A}"


def test_the_environment_is_that_of_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing else is given."""
    (tmp_path / "t.yaml").write_text("text: ${SPILLOVER_TEST}")
    monkeypatch.setenv("SPILLOVER_TEST", "here")
    assert load_config(tmp_path / "t.yaml", Filled).text == "here"


@given(st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S"]), max_size=30))
@example("${")
@example("$${${a}")
def test_any_text_can_be_written(text: str) -> None:
    """`$${` in place of `${` gives every text back, whatever else is in it."""
    written = text.replace("${", "$${").replace("'", "''")
    assert read(f"text: '{written}'").text == text


def test_the_password_of_a_camera_comes_from_its_file_each_time(tmp_path: Path) -> None:
    """Percent-encoded, so that any character may be in it; a changed file counts at the next connection."""
    file = tmp_path / "password"
    config = CameraConfig(source="rtsp://admin@host/x", password_file=str(file))
    file.write_text(" p@ss/1\n")
    assert source_of(config) == "rtsp://admin:p%40ss%2F1@host/x"
    file.write_text("other")
    assert source_of(config) == "rtsp://admin:other@host/x"
    file.write_text("\n")
    with pytest.raises(ConfigError, match=r"^camera\.password_file: .* is empty$"):
        source_of(config)
    assert source_of(CameraConfig(source="/dev/video0")) == "/dev/video0"
