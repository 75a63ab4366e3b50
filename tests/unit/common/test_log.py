"""The log's lines."""

import subprocess
import sys
from pathlib import Path

import pytest

HOSTILE = "x\n2026-11-26 [info] loaded\r\x1b[2J\u2028\x85"
CLEAR_SCREEN = "\x1b[2J"


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize("value", [HOSTILE, CLEAR_SCREEN])
def test_what_others_wrote_neither_ends_a_line_nor_moves_the_cursor(value, as_json):
    """A value with control characters is one line of printable ones, for people and for machines."""
    program = (
        "from spillover.common.log import configure_logging, get_logger;"
        f"configure_logging(as_json={as_json});"
        f"get_logger('test').info('refused', because={value!r})"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, cwd=root)
    text = done.stderr.decode()
    assert text.count("\n") == 1
    assert text.rstrip("\n").isprintable()
