"""When a stage hangs; and an end that nothing can hold up."""

import os
import subprocess
import sys

from spillover.edge.runtime.process import StallDetector
from tests.support.processes import LIMIT_S


def test_work_that_hangs_is_told_from_waiting():
    """Only work that began and did not end counts; waiting for frames may last for ever."""
    now = [0.0]
    stall = StallDetector(lambda: now[0])
    now[0] = 1e6
    assert not stall.hangs(5.0)
    with stall.working():
        now[0] += 4
        assert not stall.hangs(5.0)
        now[0] += 2
        assert stall.hangs(5.0)
    assert not stall.hangs(5.0)


def _ended(script):
    """Run a process whose last line never returns; its exit code and its log."""
    preamble = "import threading; from spillover.edge.runtime.process import *; never = threading.Event()\n"
    run = subprocess.run(
        [sys.executable, "-c", preamble + script],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    return run.returncode, run.stdout


def test_a_process_ends_though_a_thread_of_it_never_does():
    """`end_process` logs why and ends with the code, whatever threads Python would wait for."""
    code, log = _ended(
        "threading.Thread(target=never.wait).start(); end_process(6, 'ended', left_behind=['x'])"
    )
    assert code == 6
    assert "left_behind=['x']" in log


def test_a_process_that_does_not_end_by_itself_is_ended():
    """Once the time of `end_process_after` is over, though the main thread hangs."""
    code, log = _ended("end_process_after(0.1, 6, 'not ended in time'); never.wait()")
    assert code == 6
    assert "not ended in time" in log


def test_a_log_that_nobody_reads_does_not_keep_the_process():
    """The last words are given up after a second where the log's pipe is full."""
    reader, writer = os.pipe()
    try:
        os.set_blocking(writer, False)
        os.write(writer, b"x" * 2**20)  # as much as it takes
        os.set_blocking(writer, True)
        script = "from spillover.edge.runtime.process import end_process; end_process(6, 'ended')"
        ended = subprocess.run([sys.executable, "-c", script], stdout=writer, timeout=LIMIT_S, check=False)
        assert ended.returncode == 6
    finally:
        os.close(reader)
        os.close(writer)
