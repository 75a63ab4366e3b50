"""A program in the place of npm, which hands out archives of a folder without a network."""

import hashlib
import io
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

from spillover.lab.models.prepare.npm import NpmPackage

_PROGRAM = """#!{python}
import shutil, sys, time
spec, options = sys.argv[2], sys.argv[3:]
name = spec.removeprefix("@").replace("/", "-").replace("@", "-") + ".tgz"
with open({log!r}, "a") as log:
    log.write(spec + "\\n")
try:
    shutil.copy({registry!r} + "/" + name, options[options.index("--pack-destination") + 1])
except FileNotFoundError:
    sys.stderr.write("npm error code ENOTFOUND\\nnpm error errno ENOTFOUND\\n")
    sys.stderr.write("npm error network request to registry failed\\nnpm error A complete log: x\\n")
    sys.exit(1)
"""


class TinyRegistry:
    """Archives in a folder, and a program called `npm` in another that hands them out."""

    def __init__(self, folder: Path) -> None:
        self.archives, self.programs, self._log = folder / "registry", folder / "bin", folder / "asked.txt"
        self.archives.mkdir(parents=True)
        self.programs.mkdir()
        program = self.programs / "npm"
        program.write_text(
            _PROGRAM.format(python=sys.executable, log=str(self._log), registry=str(self.archives))
        )
        program.chmod(0o755)

    @property
    def asked(self) -> list[str]:
        """What was fetched, in order."""
        return self._log.read_text().splitlines() if self._log.exists() else []

    def publish(self, name: str, files: Mapping[str, bytes], folder: str = "package/models") -> NpmPackage:
        """Put a package of version 1.0.0 with these files, and others, into the registry."""
        digests = {file: hashlib.sha256(data).hexdigest() for file, data in files.items()}
        package = NpmPackage(name, "1.0.0", "MIT", 1, "", folder, digests)
        archive = self.archives / package.archive
        with tarfile.open(archive, "w:gz") as tar:
            for file, data in {**files, "unwanted.bin": b"x" * 1000}.items():
                info = tarfile.TarInfo(f"{folder}/{file}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        data = archive.read_bytes()
        return NpmPackage(name, "1.0.0", "MIT", len(data), hashlib.sha256(data).hexdigest(), folder, digests)
