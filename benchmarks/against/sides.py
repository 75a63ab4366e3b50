"""The two servers that are compared: the working tree's, and that of an older commit in a folder beside."""

import contextlib
import importlib.metadata
import os
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from packaging.requirements import Requirement

from benchmarks.cloud.contenders import Contender, free_port, served
from benchmarks.cloud.environments import environment
from spillover.common.errors import SpilloverError

TREE = Path(__file__).parents[2]
"""The working tree."""

_IMPORT_S = 60.0
_GIT_S = 60.0
_WHERE = "import spillover.cloud.server as module; print(module.__file__)"


class AgainstError(SpilloverError):
    """The two sides cannot be compared; the text says why."""


@dataclass(frozen=True, slots=True)
class Side:
    """The code of one server, and the interpreter that runs it."""

    name: str
    tree: Path
    python: Path

    @property
    def env(self) -> dict[str, str]:
        """Its own code comes before whatever the environment has installed."""
        return {"PYTHONPATH": str(self.tree)}

    def check(self) -> None:
        """Raise AgainstError when the interpreter would run other code than that of `tree`."""
        done = subprocess.run(
            [str(self.python), "-c", _WHERE],
            capture_output=True, text=True, timeout=_IMPORT_S, check=False,
            cwd=self.tree, env=os.environ | self.env,
        )  # fmt: skip
        if done.returncode:
            raise AgainstError(f"{self.name} does not import: {done.stderr.strip()[-400:]}")
        if self.tree.resolve() not in Path(done.stdout.strip()).resolve().parents:
            raise AgainstError(f"{self.name} would run {done.stdout.strip()}, which is not in {self.tree}")

    @contextlib.contextmanager
    def server(self, repository: Path, work: Path) -> Iterator[Contender]:
        """Its server with default limits on the networks of `repository`, as long as the block lasts."""
        address = f"127.0.0.1:{free_port()}"
        config = {
            "listen": address,
            "metrics": None,
            "models": {"repository": str(repository)},
            "log": {"level": "warning"},
        }
        path = work / f"{self.name}.yaml"
        path.write_bytes(msgspec.yaml.encode(config))
        command = [str(self.python), "-m", "spillover.common.cli", "cloud", "-c", str(path)]
        with served(self.name, command, address, work, self.env) as contender:
            yield contender


def sides(commit: str, folder: Path) -> tuple[Side, Side]:
    """The code of `commit`, unpacked into `folder`, and the working tree's.

    Both run in this environment while its packages suit the older code too, so that nothing but the code
    differs. Else the older one gets an environment of its own in the cache folder, with what its pyproject
    asks for.

    Raises:
        AgainstError: no such commit, or code that does not import.
        NotHereError: its environment cannot be installed.
    """
    tree = folder / "old"
    _unpack(commit, folder / "old.tar", tree)
    needed = cloud_requirements(tree / "pyproject.toml")
    python = Path(sys.executable)
    if unmet(needed):
        python = environment(f"against-{commit}", needed) / "bin/python"
    old, new = Side("old", tree, python), Side("new", TREE, Path(sys.executable))
    for side in (old, new):
        side.check()
    return old, new


def cloud_requirements(pyproject: Path) -> tuple[str, ...]:
    """What a server needs installed, as its `pyproject.toml` says."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    return (*project["dependencies"], *project["optional-dependencies"]["cloud"])


def unmet(requirements: Sequence[str]) -> tuple[str, ...]:
    """Those of `requirements` that this environment does not fulfil."""
    return tuple(one for one in requirements if not _is_met(Requirement(one)))


def _is_met(requirement: Requirement) -> bool:
    if requirement.marker and not requirement.marker.evaluate():
        return True
    try:
        return requirement.specifier.contains(importlib.metadata.version(requirement.name), prereleases=True)
    except importlib.metadata.PackageNotFoundError:
        return False


def _unpack(commit: str, archive: Path, tree: Path) -> None:
    done = subprocess.run(
        ["git", "-C", str(TREE), "archive", "--format=tar", f"--output={archive}", f"{commit}^{{commit}}"],
        capture_output=True, text=True, timeout=_GIT_S, check=False,
    )  # fmt: skip
    if done.returncode:
        raise AgainstError(f"commit {commit!r} cannot be read: {done.stderr.strip()}")
    with tarfile.open(archive) as packed:
        packed.extractall(tree, filter="data")
