"""A forced end says why, whatever the thread was doing that a signal interrupted."""

import json
import subprocess
import sys

PROGRAM = """
import sys
from structlog._output import WRITE_LOCKS, PrintLogger
from spillover.common.log import configure_logging, end_process, get_logger

configure_logging(as_json=True)
get_logger("edge").info("stopping")
with WRITE_LOCKS[sys.stderr]:  # as when a signal comes in the middle of a line
    end_process(7, "ended", left_behind=["sinks"])
"""


def test_the_reason_is_logged_although_the_log_is_locked() -> None:
    """The last line of the log names the reason and the exit code."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=False, capture_output=True, text=True)
    assert done.returncode == 7
    last = json.loads(done.stderr.splitlines()[-1])
    assert (last["event"], last["exit_code"], last["left_behind"]) == ("ended", 7, ["sinks"])
    assert (last["component"], last["level"]) == ("process", "error")
