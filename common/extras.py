"""What to install where a library is missing: the extra that brings it, as a command that works here."""

import importlib.metadata
import shlex
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import msgspec

from spillover.common.errors import ConfigError

PROJECT = "spillover"


class _DirectUrl(msgspec.Struct):
    """What an installer notes of a folder or file that it installed from (PEP 610)."""

    url: str
    dir_info: dict[str, bool] | None = None


def missing_extra(error: ModuleNotFoundError, extra: str, what: str) -> ConfigError:
    """The error for `what`, which cannot run because a library of `extra` is not installed.

    Raises:
        ModuleNotFoundError: `error` itself, where no extra would help: a module of this project or of Python.
    """
    name = (error.name or "").partition(".")[0]
    if not name or name == PROJECT or name in sys.stdlib_module_names:
        raise error
    return ConfigError(f"{what} needs `{name}`: install {PROJECT}[{extra}]: {install_command(extra)}")


def install_command(extra: str) -> str:
    """A shell command that adds `extra` to this installation.

    It names this environment's Python, and the checkout or wheel that the project came from, because nothing
    of that name need be in a package registry.
    """
    source, editable = _source()
    option = ["-e"] if editable else []
    return shlex.join([*_installer(), *option, f"{source}[{extra}]"])


def package_command(package: str) -> str:
    """A shell command that adds a package of another project to this environment."""
    return shlex.join([*_installer(), package])


def _installer() -> list[str]:
    if (_noted("INSTALLER") or "").strip() == "uv":
        return ["uv", "pip", "install", "--python", sys.executable]
    return [sys.executable, "-m", "pip", "install"]


def _source() -> tuple[str, bool]:
    """Where the project can be installed from again, and whether in place."""
    checkout = Path(__file__).absolute().parents[2]
    if (noted := _noted("direct_url.json")) is not None:
        direct = msgspec.json.decode(noted, type=_DirectUrl)
        path = Path(unquote(urlsplit(direct.url).path))
        if direct.url.startswith("file:") and path.exists():
            return str(path), bool((direct.dir_info or {}).get("editable"))
    elif not _is_installed() and (checkout / "pyproject.toml").is_file():
        return str(checkout), False
    # Whoever has the project already gets what the extra of that very version asks for, from any registry.
    return PROJECT, False


def _is_installed() -> bool:
    try:
        importlib.metadata.distribution(PROJECT)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _noted(file: str) -> str | None:
    """A file of the installed project's metadata; None where there is none."""
    try:
        return importlib.metadata.distribution(PROJECT).read_text(file)
    except importlib.metadata.PackageNotFoundError:
        return None
