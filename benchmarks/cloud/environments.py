"""Python environments for the other servers: their requirements and ours do not fit into one."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.cloud.contenders import NotHereError
from spillover.common.home import cache_home

_INSTALL_LIMIT_S = 900.0
_STAMP = "requirements.txt"


def environment(name: str, requirements: Sequence[str]) -> Path:
    """The folder of an environment with `requirements`, made in the cache folder when it is not there.

    Raises:
        NotHereError: it cannot be installed; the text has the end of what pip said.
    """
    folder = _folder(name)
    if is_prepared(name, requirements):
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    for command in (
        [sys.executable, "-m", "venv", str(folder)],
        [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", *requirements],
    ):
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_INSTALL_LIMIT_S, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise NotHereError(f"{name}: not installed within {_INSTALL_LIMIT_S:.0f} s") from error
        if done.returncode:
            raise NotHereError(f"{name}: cannot be installed: {done.stderr.strip()[-400:]}")
    (folder / _STAMP).write_text("\n".join(requirements), encoding="utf-8")
    return folder


def is_prepared(name: str, requirements: Sequence[str]) -> bool:
    """Whether `environment` would find it there, without installing anything."""
    stamp = _folder(name) / _STAMP
    return stamp.exists() and stamp.read_text(encoding="utf-8") == "\n".join(requirements)


def _folder(name: str) -> Path:
    return cache_home() / "environments" / name


def site_packages(folder: Path) -> Path:
    """Where an environment keeps its packages."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return folder / "lib" / version / "site-packages"
