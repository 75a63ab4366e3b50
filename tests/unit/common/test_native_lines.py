"""What C++ libraries write to standard error becomes log events, in a real process."""

import json
import subprocess
import sys

import pytest

from spillover.common.native_lines import NativeLine, parsed
from tests.support.processes import LIMIT_S

PREAMBLE = """
import ctypes, logging, os, signal, subprocess, sys, threading, time, warnings
from spillover.common.log import configure_logging, end_process, get_logger
from spillover.common.native_lines import native_lines_logged, stderr_for_children

def native(text):
    os.write(2, text.encode())

with native_lines_logged():
    configure_logging(as_json=True)
"""


def run(*lines: str) -> tuple[int, str]:
    """A process that runs these lines inside; its exit code and standard error."""
    script = PREAMBLE + "".join(f"    {line}\n" for line in lines)
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=LIMIT_S
    )
    return done.returncode, done.stderr


def events(log: str) -> list[dict]:
    """The log's lines; one that is not JSON fails the test."""
    return [json.loads(line) for line in log.splitlines()]


@pytest.mark.parametrize(
    ("line", "native"),
    [
        (
            "I1126 14:18:52.057982   14839 ssl_transport_security.cc:2563] Handshake failed",
            NativeLine("grpc", "info", "Handshake failed", "ssl_transport_security.cc:2563"),
        ),
        (
            "E0000 00:00:1732627200.123456     123 hpack_parser.cc:99] bad \x1b]0;x\x07",
            NativeLine("grpc", "error", "bad \\x1b]0;x\\x07", "hpack_parser.cc:99"),
        ),
        (
            "\x1b[1;31m2026-11-26 13:45:02.038092377 [E:onnxruntime:, sequential_executor.cc:677 Execute]"
            " Non-zero status code\x1b[m",
            NativeLine("onnxruntime", "error", "Non-zero status code", "sequential_executor.cc:677"),
        ),
        ("free(): invalid pointer", NativeLine("native", "warning", "free(): invalid pointer")),
    ],
)
def test_lines_of_grpc_and_onnx_runtime_are_taken_apart(line, native):
    """Library, level, place and text; no colours, and nothing that moves a cursor."""
    assert parsed(line) == native


def test_many_lines_of_one_cause_are_two_events():
    """The first as it is, and how many more there were."""
    line = "E1126 14:18:52.0 1 a.cc:1] failed for "
    code, log = run(
        f"[native(f'{line}{{number}}\\n') for number in range(50)]",
        "native('another thing\\n')",
    )
    assert code == 0
    first, other, rest = events(log)
    assert (first["event"], first["component"], first["level"]) == ("failed for 0", "grpc", "error")
    assert other["event"] == "another thing"
    assert (rest["event"], rest["cause"], rest["left_out"]) == ("lines left out", "grpc a.cc:1", 49)


def test_what_python_writes_is_written_past_the_pipe():
    """Its log, warnings, `logging`, a thread that fails, an error that is ignored: JSON, in order."""
    code, log = run(
        "get_logger('here').info('own')",
        "logging.getLogger('asyncio').error('of a library')",
        "warnings.warn('of a caller')",
        "thread = threading.Thread(target=lambda: 1 / 0); thread.start(); thread.join()",
        "class Bad:",
        "    def __del__(self): raise ValueError('late')",
        "Bad()",
    )
    assert code == 0
    own, library, warning, failed, ignored = events(log)
    assert own["event"] == "own"
    assert (library["event"], library["component"]) == ("of a library", "asyncio")
    assert "of a caller" in warning["event"]
    assert "ZeroDivisionError" in failed["exception"]
    assert "late" in ignored["exception"]


def test_what_was_written_before_a_forced_end_comes_out_and_the_last_words_too():
    """The pipe is emptied first; the reason of the end does not take the way through it."""
    code, log = run("native('a line\\n')", "end_process(7, 'ended', left_behind=['x'])")
    assert code == 7
    assert [event["event"] for event in events(log)] == ["a line", "ended"]


def test_a_fatal_signal_shows_where_it_struck():
    """The traceback goes to where standard error led before."""
    code, log = run("ctypes.CDLL(None).abort()")
    assert code == -6
    assert "Fatal Python error: Aborted" in log


def test_children_write_to_a_standard_error_that_outlives_their_parent():
    """One that is forked, and one that is given the descriptor; any other writes into the log."""
    late = "import os, sys; sys.stdin.read(); os.write(2, b'late child')"
    code, log = run(
        "subprocess.run([sys.executable, '-c', 'import os; os.write(2, b\"child\")'], check=True)",
        "pid = os.fork()",
        "if pid == 0:",
        "    os.write(2, b'forked\\n')",
        "    os._exit(0)",
        "os.waitpid(pid, 0)",
        "hold = subprocess.Popen(",
        f"    [sys.executable, '-c', {late!r}], stdin=subprocess.PIPE, stderr=stderr_for_children()",
        ")",
        "native('\\n')",
        "end_process(0, 'ended')",
    )
    assert code == 0
    assert "forked\n" in log
    assert '"event": "child"' in log
    assert log.endswith("late child")


def test_a_writer_never_waits_for_the_reader():
    """More than the pipe holds, written while the interpreter is held: what has no room is dropped."""
    code, log = run(
        "libc = ctypes.PyDLL(None)  # keeps the interpreter",
        "for _ in range(100): libc.write(2, b'x' * 65535 + b'\\n', 65536)",
    )
    assert code == 0
    assert events(log)
