"""The root command: lazy, and errors become one line and an exit code."""

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from spillover.common import cli
from spillover.common.errors import ConfigError, InvalidInputError, ModelError, SourceError, SpilloverError


def test_help_lists_every_side_without_importing_one() -> None:
    """`spillover --help` costs the import of click and nothing of edge, cloud, lab."""
    code = (
        "import sys; from click.testing import CliRunner; from spillover.common.cli import spillover;"
        "print(CliRunner().invoke(spillover, ['--help']).output);"
        "sides = {'spillover.edge', 'spillover.cloud', 'spillover.lab'};"
        "assert not (sides | {'cv2', 'onnxruntime', 'grpc'}) & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    for name in ("edge", "cloud", "lab", "Exit codes"):
        assert name in done.stdout


@pytest.mark.parametrize(
    ("error", "code"),
    [(ConfigError, 3), (ModelError, 4), (SourceError, 5), (InvalidInputError, 1), (PermissionError, 1)],
)
def test_an_error_is_one_line_and_its_exit_code(
    error: type[Exception],
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The project's own errors, and the system's, never show a traceback."""

    def fail(**_: object) -> None:
        raise error("it is so")

    monkeypatch.setattr(cli.spillover, "main", fail)
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == code
    assert capsys.readouterr().err == "spillover: it is so\n"


@pytest.mark.parametrize("place", ["no_such_module.deep:thing", "common.errors:thing.deep"])
def test_a_fault_of_this_project_is_no_missing_library(place: str) -> None:
    """A module of ours that is not there is a mistake in the code: nobody is told to install something."""
    group = cli.LazyGroup(name="g", commands_at={"x": (place, "text")})
    with pytest.raises((ModuleNotFoundError, AttributeError)):
        CliRunner().invoke(click.Group("root", commands={"g": group}), ["g", "x"], catch_exceptions=False)


@pytest.mark.parametrize(
    ("words", "meant"), [(["egde"], "edge"), (["clod"], "cloud"), (["lab", "prepaer"], "prepare")]
)
def test_a_misspelt_command_is_answered_with_the_one_that_was_meant(words: list[str], meant: str) -> None:
    """Wrong usage, code 2; what resembles nothing gets no advice."""
    outcome = CliRunner().invoke(cli.spillover, words)
    assert outcome.exit_code == 2
    assert f"Did you mean {meant!r}?" in outcome.output
    assert "Did you mean" not in CliRunner().invoke(cli.spillover, ["frobnicate"]).output


def test_an_unknown_command_is_wrong_usage() -> None:
    """Exit code 2, as click does everywhere."""
    assert CliRunner().invoke(cli.spillover, ["fly"]).exit_code == 2


def test_a_32_bit_interpreter_is_refused() -> None:
    """With what to install; a 64-bit one is let through, also where kernel and userland differ."""
    with pytest.raises(SpilloverError, match="64-bit Raspberry Pi OS"):
        cli.require_64_bit(2**31 - 1)
    cli.require_64_bit(2**63 - 1)


def test_the_command_asks_for_64_bits_before_anything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line and exit code 1, no traceback of a library that is not there."""
    monkeypatch.setattr(sys, "maxsize", 2**31 - 1)
    monkeypatch.setattr(sys, "argv", ["spillover", "no-such-command"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
