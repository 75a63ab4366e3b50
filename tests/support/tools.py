"""Programs of the system that a test may run."""

import shutil

import pytest


def tool(name: str, package: str) -> str:
    """The path of a program; the test skips, naming the Debian package that brings it, where it is absent."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if path is None:
        pytest.skip(f"{name} is not installed (Debian's {package} brings it)")
    return path
