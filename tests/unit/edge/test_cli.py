"""The command line of the edge: it teaches, it overrides, and it names what is wrong."""

from pathlib import Path

from click.testing import CliRunner

from common.config import parse_config
from edge.cli import edge, with_overrides
from edge.config import EdgeConfig, JsonLinesConfig, Mode

TWO_LINES = "{camera: {source: v}, model: {folder: m}}"


def test_help_teaches() -> None:
    """`--help` shows an example, every option and the exit codes."""
    text = CliRunner().invoke(edge, ["--help"]).output
    for word in ("spillover edge -c edge.yaml", "--mode", "--source", "--output", "Exit codes"):
        assert word in text


def test_config_is_asked_for() -> None:
    """Without a configuration the command says which option is missing: wrong usage, code 2."""
    outcome = CliRunner().invoke(edge, [])
    assert outcome.exit_code == 2
    assert "--config" in outcome.output


def test_overrides_replace_single_values() -> None:
    """What the command line says stands in for the file's value; everything else stays."""
    config = parse_config(TWO_LINES, EdgeConfig, "edge.yaml")
    changed = with_overrides(config, "edge_only", "clip.mp4", "out.jsonl")
    assert changed.mode is Mode.EDGE_ONLY
    assert changed.camera.source == "clip.mp4"
    assert changed.sinks == (JsonLinesConfig(path="out.jsonl"),)
    assert changed.model == config.model
    assert with_overrides(config) == config


def test_unknown_mode_is_usage(tmp_path: Path) -> None:
    """A mode that does not exist is refused before anything is read."""
    outcome = CliRunner().invoke(edge, ["-c", str(tmp_path / "absent.yaml"), "--mode", "sometimes"])
    assert outcome.exit_code == 2
    assert "hybrid" in outcome.output
