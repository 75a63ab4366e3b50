"""The package as users get it: what is in the wheel, built the long way round by the source archive."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = ("common", "edge", "cloud", "lab")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source archive of this checkout, and the wheel that was built from that archive."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_the_wheel_installs_spillover_and_nothing_else(built: Path) -> None:
    """`spillover` is all that the wheel puts into site-packages, beside its own metadata."""
    names = _wheel(built).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"spillover"}
    below = {name.split("/")[1] for name in names if name.startswith("spillover/")}
    assert below == {"__init__.py", *PARTS}


@pytest.mark.needs("git")
@pytest.mark.parametrize("part", PARTS)
def test_the_wheel_holds_every_module(built: Path, part: str) -> None:
    """The links in `spillover/` are not followed by the builder, yet all their code is in the wheel."""
    tracked = subprocess.run(["git", "ls-files", part], cwd=ROOT, capture_output=True, text=True, check=False)
    if tracked.returncode or not tracked.stdout:
        pytest.skip("no git checkout to compare with")
    expected = {f"spillover/{name}" for name in tracked.stdout.splitlines() if (ROOT / name).is_file()}
    assert len(expected) > 20
    assert expected <= set(_wheel(built).namelist())


def test_the_wheel_holds_the_live_view(built: Path) -> None:
    """The page's own files, which are no modules, are where the package looks for them."""
    page = {f"spillover/edge/web/static/{name}" for name in ("index.html", "live.css", "live.js")}
    assert page <= set(_wheel(built).namelist())


def test_the_installed_wheel_runs(built: Path, tmp_path: Path) -> None:
    """The command's module runs from the unpacked wheel alone."""
    _wheel(built).extractall(tmp_path)
    command = [
        sys.executable,
        "-c",
        "import spillover.common.cli as cli; print(cli.__file__); cli.main()",
        "--help",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(str(tmp_path))
    assert "edge" in done.stdout


def test_the_source_archive_holds_no_links(built: Path) -> None:
    """It unpacks anywhere, and has all that a build and a test need: each folder whole."""
    archive = next(built.glob("*.tar.gz"))
    with tarfile.open(archive) as files:
        members = files.getmembers()
    assert not [member.name for member in members if member.issym() or member.islnk()]
    names = {member.name.partition("/")[2] for member in members}
    assert {"proto", "tests", "Makefile"} <= {name.split("/")[0] for name in names}
    assert {"benchmarks/__main__.py", "benchmarks/cloud/cli.py", "benchmarks/policy/cli.py"} <= names


def _wheel(built: Path) -> zipfile.ZipFile:
    (path,) = built.glob("*.whl")
    return zipfile.ZipFile(path)
