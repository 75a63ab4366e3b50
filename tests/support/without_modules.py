"""A process in which some libraries are not installed; it runs commands of the project in turn."""

import contextlib
import importlib.machinery
import io
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Collection, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]


class Outcome(NamedTuple):
    """How a command ended: its exit code, and what it wrote to standard error."""

    code: int
    stderr: str


class Hiding:
    """A finder of modules that does not find those that are hidden; everything else is the finder's own."""

    def __init__(self, finder: Any, hidden: Collection[str]) -> None:
        self._finder = finder
        self._hidden = hidden

    def __getattr__(self, name: str) -> Any:
        return getattr(self._finder, name)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Nothing for a hidden module and all below it, as if it were not installed."""
        if fullname.partition(".")[0] in self._hidden:
            return None
        found: importlib.machinery.ModuleSpec | None = self._finder.find_spec(fullname, path, target)
        return found


def run_without(
    hidden: Collection[str], commands: Sequence[Sequence[str]], folder: Path, home: Path
) -> list[Outcome]:
    """Run `spillover` with each of the argument lists in one process that lacks the hidden modules."""
    order = json.dumps([sorted(hidden), commands])
    done = subprocess.run(
        [sys.executable, "-c", "from tests.support.without_modules import main; main()"],
        input=order,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        cwd=folder,
        env={**_environment(), "SPILLOVER_HOME": str(home)},
    )
    assert done.returncode == 0, done.stderr
    return [Outcome(*json.loads(line)) for line in done.stdout.splitlines() if line.startswith("[")]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}


def main() -> None:
    """Read an order from standard input and print one JSON list for each command."""
    hidden, commands = json.load(sys.stdin)
    sys.meta_path[:] = [Hiding(finder, frozenset(hidden)) for finder in sys.meta_path]
    assert not set(hidden) & set(sys.modules)
    from spillover.common import cli

    told = sys.stdout
    for command in commands:
        sys.argv = ["spillover", *command]
        errors, code = io.StringIO(), 0
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
            try:
                cli.main()
            except SystemExit as ended:
                code = int(ended.code or 0)
            except BaseException:  # noqa: BLE001 - what a person would see as a traceback
                code = 1
                traceback.print_exc()
        print(json.dumps([code, errors.getvalue()]), file=told, flush=True)
