"""What several commands of the workbench take: models by path or name, files that can be written."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from benchmarks.split.cli import bench_split
from spillover.common.errors import ConfigError
from spillover.lab.models.profile.cli import profile
from spillover.lab.models.quantize.cli import quantize
from spillover.lab.pairs.evaluate.cli import evaluate
from spillover.lab.params import MODEL, OUTPUT, PLOT
from spillover.lab.split.cli import split
from tests.support.models import colour_classifier


@pytest.mark.parametrize("command", [evaluate, quantize, split, profile, bench_split])
def test_commands_take_a_model_by_path_or_prepared_name(command: click.Command) -> None:
    """Every parameter that is a model is of the one type that knows both."""
    named = [p for p in command.params if p.name in {"model", "edge", "cloud"}]
    assert named
    assert all(parameter.type is MODEL for parameter in named)


def test_a_model_is_found_by_folder_file_and_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All three lead to the same folder."""
    monkeypatch.setenv("SPILLOVER_HOME", str(tmp_path))
    folder = colour_classifier(tmp_path / "models")
    for written in (str(folder), str(folder / "model.onnx"), "colour", "colour/1"):
        assert MODEL.convert(written, None, None) == folder


def test_an_unknown_kind_of_plot_is_refused_before_the_work(tmp_path: Path) -> None:
    """Wrong usage, with the kinds there are; not an error after an hour."""
    colour_classifier(tmp_path)
    same = str(tmp_path / "colour")
    arguments = ["--edge", same, "--cloud", same, "--data", same, "--json", "e.json", "--plot", "e.plt"]
    done = CliRunner().invoke(evaluate, arguments)
    assert done.exit_code == 2
    assert ".svg" in done.output


@pytest.mark.parametrize("kind", [OUTPUT, PLOT])
def test_a_file_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path, kind: click.Path) -> None:
    """A file where a folder should be; a path whose folders can be made is fine, and none is made yet."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written"):
        kind.convert(tmp_path / "file" / "deep" / "e.png", None, None)
    assert kind.convert(tmp_path / "new" / "deep" / "e.png", None, None).name == "e.png"
    assert not (tmp_path / "new").exists()
