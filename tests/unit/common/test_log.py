"""The log's lines."""

import json
import os
import re
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


_SAYS = (
    "import sys; from spillover.common.log import configure_logging, get_logger;"
    "configure_logging(as_json=sys.argv[1] == 'json'); log = get_logger('test');"
    "log.info('fine'); log.warning('odd');\n"
    "try: 1 / 0\n"
    "except ZeroDivisionError: log.exception('broken')"
)


def _said(form: str, journal: bool) -> list[str]:
    """The lines of a process whose standard error is a pipe, which it takes for the journal's or not."""
    reader, writer = os.pipe()
    status = os.fstat(writer)
    stream = f"{status.st_dev}:{status.st_ino}" if journal else "1:1"
    with os.fdopen(writer, "wb") as error:
        subprocess.run(
            [sys.executable, "-c", _SAYS, form],
            stderr=error,
            check=True,
            env=os.environ | {"JOURNAL_STREAM": stream},
        )
    with os.fdopen(reader) as file:
        return file.read().splitlines()


def test_the_journal_gets_priorities_and_no_second_time():
    """Every line of an event has the priority of its level, those of a traceback too."""
    lines = _said("text", journal=True)
    assert lines[0].startswith("<6>[info")
    assert lines[1].startswith("<4>[warning")
    assert "Traceback" in lines[3]
    assert all(line.startswith("<3>") for line in lines[2:])
    assert not any(re.search(r"\d{4}-\d\d-\d\dT", line) for line in lines)


def test_json_for_the_journal_is_json_once_the_priority_is_off():
    """With its time, which programs read."""
    lines = _said("json", journal=True)
    assert [line[:3] for line in lines] == ["<6>", "<4>", "<3>"]
    assert all("timestamp" in json.loads(line[3:]) for line in lines)


def test_another_stream_than_the_journals_has_times_and_no_priorities():
    """The variable is inherited by processes whose standard error leads elsewhere."""
    assert all(re.match(r"\d{4}-\d\d-\d\dT", line) for line in _said("text", journal=False)[:3])
