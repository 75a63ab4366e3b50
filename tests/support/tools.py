"""Programs of the system that a test may run."""

import shutil

import pytest


def tool(name: str, package: str, folders: str = "/usr/sbin:/sbin") -> str:
    """The path of a program, on the PATH or in `folders`.

    The test skips, naming the Debian package that brings it, where it is absent.
    """
    path = shutil.which(name) or shutil.which(name, path=folders)
    if path is None:
        pytest.skip(f"{name} is not installed (Debian's {package} brings it)")
    return path
