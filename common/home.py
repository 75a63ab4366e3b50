"""Location of prepared models and downloads: one cache folder, set by `$SPILLOVER_HOME` or a default."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path


def cache_home(environ: Mapping[str, str] | None = None) -> Path:
    """`$SPILLOVER_HOME`, else the platform's cache folder (XDG on Linux, ~/Library/Caches on macOS)."""
    env = os.environ if environ is None else environ
    if named := env.get("SPILLOVER_HOME"):
        return Path(named).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "spillover"
    base = env.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "spillover"


def models_home(environ: Mapping[str, str] | None = None) -> Path:
    """The folder of prepared models inside the cache folder."""
    return cache_home(environ) / "models"
