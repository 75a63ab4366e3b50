"""The command line of the edge: it teaches, it overrides, and it names what is wrong."""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from spillover.common.config import parse_config
from spillover.common.errors import ConfigError
from spillover.edge.cli import edge, with_overrides
from spillover.edge.config import EdgeConfig, JsonLinesConfig, Mode
from tests.support.models import colour_classifier
from tests.support.processes import LIMIT_S, SPILLOVER, wait_until

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
    assert [one.source for one in changed.all_cameras] == ["clip.mp4"]
    assert changed.sinks == (JsonLinesConfig(path="out.jsonl"),)
    assert changed.model == config.model
    assert with_overrides(config) == config


def test_one_source_cannot_stand_for_several_cameras() -> None:
    """`--source` is refused where there are `cameras`: nobody knows which is meant."""
    config = parse_config("{cameras: [{source: v}], model: {folder: m}}", EdgeConfig, "edge.yaml")
    with pytest.raises(ConfigError, match=r"--source stands in place of camera\.source"):
        with_overrides(config, source="clip.mp4")


def test_unknown_mode_is_usage(tmp_path: Path) -> None:
    """A mode that does not exist is refused before anything is read."""
    outcome = CliRunner().invoke(edge, ["-c", str(tmp_path / "absent.yaml"), "--mode", "sometimes"])
    assert outcome.exit_code == 2
    assert "hybrid" in outcome.output


def test_what_does_not_fit_the_model_names_the_file(tmp_path: Path) -> None:
    """An error that only shows when the model is there still says in which file the key stands."""
    model = colour_classifier(tmp_path)
    path = tmp_path / "edge.yaml"
    path.write_text(f"{{camera: {{source: v}}, model: {{folder: {model}}}, policy: {{kind: luck}}}}")
    outcome = CliRunner().invoke(edge, ["-c", str(path)])
    assert isinstance(outcome.exception, ConfigError)
    assert str(outcome.exception).startswith(f"{path}:1: policy.kind: must be")


def test_a_signal_while_the_daemon_is_built_is_a_clean_end(tmp_path: Path) -> None:
    """SIGTERM before the first frame: exit code 0, as documented, at once."""
    results = tmp_path / "results.jsonl"
    os.mkfifo(results)  # to open it waits for a reader, and none comes
    path = tmp_path / "edge.yaml"
    model = colour_classifier(tmp_path)
    sinks = f"[{{kind: jsonl, path: {results}}}]"
    path.write_text(f"{{camera: {{source: v}}, model: {{folder: {model}}}, sinks: {sinks}}}")
    process = subprocess.Popen([*SPILLOVER, "edge", "-c", str(path)], stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: _catches(process.pid, signal.SIGTERM), process)
        for _ in range(LIMIT_S):
            # One that comes just before the wait begins is heard when that ends, and here it never does.
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1.0)
                break
        assert process.returncode == 0
    finally:
        process.kill()
        process.communicate()


def _catches(pid: int, number: signal.Signals) -> bool:
    """Whether the process has a handler for this signal."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (number - 1) & 1)


def test_a_closed_standard_output_is_named(tmp_path: Path) -> None:
    """Results that are to go there have no place to go: exit code 3 and one line, no traceback."""
    path = tmp_path / "edge.yaml"
    path.write_text(f"{{camera: {{source: {tmp_path}}}, model: {{folder: {colour_classifier(tmp_path)}}}}}")
    command = f"exec {shlex.join([*SPILLOVER, 'edge', '-c', str(path)])} >&-"
    ended = subprocess.run(
        command, shell=True, stderr=subprocess.PIPE, text=True, timeout=LIMIT_S, check=False
    )
    assert ended.returncode == 3
    assert ended.stderr == f"spillover: {path}: sinks[0]: standard output is closed; name a file as `path`\n"


_HANGS_UP = """
import os, signal
from spillover.edge.cli import hangups_to
master, slave = os.openpty()
os.dup2(slave, 2)
os.close(slave)
with hangups_to(lambda: print("reload"), print):
    os.kill(os.getpid(), signal.SIGHUP)
    os.close(master)
    os.kill(os.getpid(), signal.SIGHUP)
os.kill(os.getpid(), signal.SIGHUP)
print("ends by itself")
"""


def test_a_terminal_that_is_gone_stops_and_is_no_reload() -> None:
    """SIGHUP has two meanings; with its terminal a daemon loses its log, and whoever started it.

    One that comes when all is done kills no process on its way out.
    """
    done = subprocess.run([sys.executable, "-c", _HANGS_UP], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["reload", "SIGHUP: the terminal is gone", "ends by itself"]
