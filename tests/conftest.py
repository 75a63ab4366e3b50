"""Fixtures that every test may use."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# No test asserts on time: a busy machine must fail none.
settings.register_profile("no-clock", deadline=None)
settings.load_profile("no-clock")


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of real models and labelled pictures; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("SPILLOVER_SHARED", Path(__file__).parents[2] / "shared"))
    if not (folder / "models").is_dir():
        pytest.skip(f"no real models and pictures at {folder} (set SPILLOVER_SHARED)")
    return folder
