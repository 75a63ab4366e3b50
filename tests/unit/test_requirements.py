"""SPILLOVER_REQUIRE: what is named there must not be skipped for want of it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

CONFTEST = Path(__file__).parents[1] / "conftest.py"
SAMPLE = """
import pytest

@pytest.mark.needs("mqtt")
def test_of_a_broker():
    pytest.skip("no broker here")
"""


@pytest.mark.parametrize(
    ("required", "expected"),
    [
        ("", "1 skipped"),
        ("rtsp", "1 skipped"),
        ("mqtt", "1 failed"),
        ("rtsp, mqtt", "1 failed"),
        ("all", "1 failed"),
        ("mqqt", "mqqt is unknown"),
    ],
)
def test_a_skip_for_want_of_what_is_required_fails(tmp_path: Path, required: str, expected: str) -> None:
    """A name that no test uses is refused, or it would require nothing."""
    shutil.copy(CONFTEST, tmp_path / "conftest.py")
    (tmp_path / "test_sample.py").write_text(SAMPLE, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = needs: x\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        capture_output=True,
        check=False,
        text=True,
        env=os.environ | {"SPILLOVER_REQUIRE": required},
        cwd=tmp_path,
    )
    assert expected in done.stdout + done.stderr
