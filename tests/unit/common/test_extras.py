"""The command that brings a missing library, for each way in which the project may be installed."""

import json
import shlex
import sys
from pathlib import Path

import pytest

from spillover.common.errors import ConfigError
from spillover.common.extras import install_command, missing_extra


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The metadata of an installation from a registry, found before any other."""
    metadata = tmp_path / "spillover-9.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.4\nName: spillover\nVersion: 9\n")
    (metadata / "INSTALLER").write_text("pip\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return metadata


def _noted(metadata: Path, url: str, **more: object) -> None:
    (metadata / "direct_url.json").write_text(json.dumps({"url": url, **more}))


PIP = [sys.executable, "-m", "pip", "install"]


def test_from_a_registry_the_name_is_enough(installed: Path) -> None:
    """An installer takes the list of the extra from the version that is installed."""
    assert shlex.split(install_command("lab")) == [*PIP, "spillover[lab]"]


def test_from_a_checkout_it_names_the_folder(installed: Path, tmp_path: Path) -> None:
    """With spaces and all; `-e` where it is installed in place."""
    checkout = tmp_path / "my checkout"
    checkout.mkdir()
    _noted(installed, checkout.as_uri(), dir_info={})
    assert shlex.split(install_command("lab")) == [*PIP, f"{checkout}[lab]"]
    _noted(installed, checkout.as_uri(), dir_info={"editable": True})
    assert shlex.split(install_command("lab")) == [*PIP, "-e", f"{checkout}[lab]"]


def test_from_a_wheel_it_names_the_file(installed: Path, tmp_path: Path) -> None:
    """As long as the file is there; after that the installed version's own list is asked for."""
    wheel = tmp_path / "spillover-9-py3-none-any.whl"
    wheel.touch()
    _noted(installed, wheel.as_uri(), archive_info={"hashes": {"sha256": "0"}})
    assert shlex.split(install_command("mqtt")) == [*PIP, f"{wheel}[mqtt]"]
    wheel.unlink()
    assert shlex.split(install_command("mqtt")) == [*PIP, "spillover[mqtt]"]


def test_what_uv_has_installed_it_installs_again(installed: Path) -> None:
    """An environment that uv has made need not hold pip."""
    (installed / "INSTALLER").write_text("uv")
    assert shlex.split(install_command("lab"))[:4] == ["uv", "pip", "install", "--python"]


def test_a_module_of_python_or_of_this_project_is_no_extra() -> None:
    """Nothing is to be installed for them: the fault itself is raised."""
    for name in ("spillover.nowhere", "_sqlite3", ""):
        error = ModuleNotFoundError(f"No module named {name!r}", name=name)
        with pytest.raises(ModuleNotFoundError):
            missing_extra(error, "edge", "`spillover edge`")
    told = missing_extra(ModuleNotFoundError(name="rich.table"), "lab", "`spillover lab fit`")
    assert isinstance(told, ConfigError)
    assert str(told).startswith("`spillover lab fit` needs `rich`: install spillover[lab]: ")
