"""What pyproject.toml asks for, and the files of pins and hashes that `make requirements` makes of it."""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "requirements"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PYPROJECT["project"]["optional-dependencies"]
FILES = {
    "edge": ("edge",),
    "edge-mqtt": ("edge", "mqtt"),
    "edge-mqtt-video": ("edge", "mqtt", "video"),
    "cloud": ("cloud",),
    "cloud-video": ("cloud", "video"),
    "cloud-gpu": ("cloud-gpu",),
    "envoy": ("envoy",),
    "fleet": ("cloud", "fleet"),
    "otel": ("otel",),
    "update": ("edge", "update"),
    "lab": ("lab",),
}
"""Name of a file, and the extras that it is for."""
PLATFORMS = tuple(product(("x86_64", "aarch64"), ("3.11", "3.12", "3.13")))


@dataclass(frozen=True, slots=True)
class Pin:
    """One entry of a file."""

    requirement: Requirement
    hashes: tuple[str, ...]

    @property
    def name(self) -> str:
        """As registries compare names."""
        return canonicalize_name(self.requirement.name)

    @property
    def version(self) -> Version:
        """The one that is allowed."""
        (specifier,) = self.requirement.specifier
        assert specifier.operator == "=="
        return Version(specifier.version)

    def is_for(self, machine: str, python: str) -> bool:
        """Whether it is installed there."""
        marker = self.requirement.marker
        return marker is None or marker.evaluate(_environment(machine, python))


def _environment(machine: str, python: str) -> dict[str, str]:
    return {
        "platform_machine": machine,
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
    }


def _pins(name: str) -> list[Pin]:
    text = (FOLDER / f"{name}.txt").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return [Pin(Requirement(line.split(" --hash")[0]), tuple(_hashes(line))) for line in lines]


def _hashes(line: str) -> Iterator[str]:
    return (found[1] for found in re.finditer(r" --hash=sha256:([0-9a-f]{64})(?= |$)", line))


def _asked_for(name: str) -> list[Requirement]:
    """What pyproject.toml says of the extras of a file."""
    asked = PYPROJECT["project"]["dependencies"] + [one for extra in FILES[name] for one in EXTRAS[extra]]
    return [Requirement(one) for one in asked]


ASKED = [
    *PYPROJECT["build-system"]["requires"],
    *PYPROJECT["project"]["dependencies"],
    *(one for extra in EXTRAS.values() for one in extra),
    *(one for group in PYPROJECT["dependency-groups"].values() for one in group),
]


@pytest.mark.parametrize("asked", ASKED)
def test_every_dependency_has_an_upper_bound(asked: str) -> None:
    """An installation of next year gets no major version that nobody has tested here."""
    specifier = Requirement(asked).specifier
    assert {one.operator for one in specifier} & {"<", "=="}, asked
    assert not specifier.contains(Version("1000"))


def test_each_extra_that_is_deployed_has_a_file() -> None:
    """No file is left over from an extra that is gone, and none is missing."""
    assert {path.stem for path in FOLDER.iterdir()} == set(FILES)
    assert {extra for extras in FILES.values() for extra in extras} == set(EXTRAS) - {"dev", "models"}


@pytest.mark.parametrize("name", FILES)
def test_every_entry_is_pinned_and_hashed(name: str) -> None:
    """Whichever index is used, pip takes only the very files that were there when the pins were made."""
    pins = _pins(name)
    assert len(pins) > 10
    for pin in pins:
        assert pin.version
        assert pin.hashes, pin.name
        assert not pin.requirement.url
    assert "://" not in (FOLDER / f"{name}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize(("machine", "python"), PLATFORMS)
@pytest.mark.parametrize("name", FILES)
def test_the_pins_satisfy_what_is_asked_for(name: str, machine: str, python: str) -> None:
    """On each platform each direct dependency has exactly one version, and it lies within its bounds."""
    pins: dict[str, list[Pin]] = {}
    for pin in _pins(name):
        if pin.is_for(machine, python):
            pins.setdefault(pin.name, []).append(pin)
    assert all(len(of_one) == 1 for of_one in pins.values())
    for asked in _asked_for(name):
        if asked.marker is None or asked.marker.evaluate(_environment(machine, python)):
            (pin,) = pins[canonicalize_name(asked.name)]
            assert asked.specifier.contains(pin.version), f"{asked}: run `make requirements`"


def test_files_for_one_machine_agree() -> None:
    """A package has the same version for every extra, so that two of them fit into one environment."""
    for machine, python in PLATFORMS:
        found: dict[str, set[Version]] = {}
        for name in FILES:
            for pin in _pins(name):
                if pin.is_for(machine, python):
                    found.setdefault(pin.name, set()).add(pin.version)
        assert {name: versions for name, versions in found.items() if len(versions) > 1} == {}
