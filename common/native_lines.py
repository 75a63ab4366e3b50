"""Lines that libraries in C++ write to standard error, as log events: one a cause and second.

gRPC's core and ONNX Runtime write to descriptor 2 and offer no other way from Python. So it becomes a pipe
that a thread reads, while the log, tracebacks and last words go to the descriptor that was there before. The
pipe never makes a writer wait, because one that holds the interpreter would wait for the reader for ever.
"""

import faulthandler
import fcntl
import logging
import os
import re
import select
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from spillover.common.log import NATIVE_LINES, Throttle, get_logger, printable

_PIPE_BYTES = 1 << 20
_MAX_LINE_BYTES = 8192
_MAX_TEXT = 500
_END_S = 1.0
_LOOK_S = 1.0

_COLOUR = re.compile(r"\x1b\[[\d;]*[A-Za-z]")
_GRPC = re.compile(r"([IWEF])\d{4} \S+\s+\d+ ([\w./-]+:\d+)\] (.*)")
_ORT = re.compile(r"\d{4}-\d\d-\d\d \S+ \[([VIWEF]):onnxruntime:[^,]*, ([\w./-]+:\d+) \w+\] (.*)")
_LEVELS = {"V": "debug", "I": "info", "W": "warning", "E": "error", "F": "critical"}
_DIGITS = re.compile(r"[\d']+|0x[0-9a-fA-F]+")


@dataclass(frozen=True, slots=True)
class NativeLine:
    """One line: which library wrote it, how serious it is, where in the source, and the text."""

    component: str
    level: str
    text: str
    at: str = ""

    @property
    def cause(self) -> str:
        """Equal for lines that say the same of different requests."""
        return f"{self.component} {self.at or _DIGITS.sub('', self.text)[:60]}"


def parsed(line: str) -> NativeLine:
    """A line as gRPC's core or ONNX Runtime write it; one of anything else is a warning of `native`."""
    line = _COLOUR.sub("", line).rstrip()
    for component, pattern in (("grpc", _GRPC), ("onnxruntime", _ORT)):
        if found := pattern.match(line):
            level, at, text = found.groups()
            return NativeLine(component, _LEVELS[level], printable(text, _MAX_TEXT), at)
    return NativeLine("native", "warning", printable(line, _MAX_TEXT))


def stderr_for_children() -> int:
    """The descriptor to start a child with as its standard error, if it may outlive this process."""
    return sys.stderr.fileno()


@contextmanager
def native_lines_logged() -> Iterator[None]:
    """While inside, what is written to descriptor 2 is logged; `sys.stderr` leads where that led before.

    Configure the log inside. A fatal signal writes Python's traceback there too (faulthandler). A forked
    child has its standard error back; one that `subprocess` starts writes into the log, unless it is given
    `stderr_for_children`.
    """
    before = sys.stderr
    before.flush()
    original = os.dup(2)
    reader, writer = os.pipe()
    for descriptor in (reader, writer):
        os.set_blocking(descriptor, descriptor == reader)
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with suppress(OSError):  # an unprivileged user may have had too many of them
            fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    os.dup2(writer, 2)
    os.close(writer)
    sys.stderr = os.fdopen(os.dup(original), "w", buffering=1, errors="backslashreplace")
    faulthandler.enable(original)
    inside = [True]
    os.register_at_fork(after_in_child=lambda: os.dup2(original, 2) if inside else None)
    logging.captureWarnings(capture=True)
    hooks = threading.excepthook, sys.unraisablehook
    threading.excepthook, sys.unraisablehook = _log_uncaught, _log_ignored
    thread = threading.Thread(target=_Reader(reader).run, name=NATIVE_LINES, daemon=True)
    thread.start()
    try:
        yield
    finally:
        inside.clear()
        threading.excepthook, sys.unraisablehook = hooks
        logging.captureWarnings(capture=False)
        faulthandler.disable()
        os.dup2(original, 2)  # ends the pipe, unless a child has it: then the thread is left to the end
        thread.join(_END_S)
        sys.stderr.flush()
        sys.stderr = before
        os.close(original)


class _Reader:
    """Reads lines from a descriptor until its end, and logs them."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._throttle = Throttle()

    def run(self) -> None:
        """Read until every writer has closed."""
        rest = b""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        while True:
            if poll.poll(_LOOK_S * 1000 if self._throttle.leaves_out else None):
                if not (chunk := os.read(self._descriptor, _PIPE_BYTES)):
                    break
                *lines, rest = (rest + chunk).split(b"\n")
                if len(rest) > _MAX_LINE_BYTES:
                    lines.append(rest)
                    rest = b""
                for line in lines:
                    self._take(line)
            self._write_left_out(self._throttle.overdue())
        self._take(rest)
        self._write_left_out(self._throttle.overdue(at_once=True))
        os.close(self._descriptor)

    def _take(self, line: bytes) -> None:
        if not line.strip():
            return
        native = parsed(line[:_MAX_LINE_BYTES].decode(errors="backslashreplace"))
        if (left_out := self._throttle.passes(native.cause)) is None:
            return
        fields: dict[str, object] = {"at": native.at} if native.at else {}
        if left_out:
            fields["left_out"] = left_out
        getattr(get_logger(native.component), native.level)(native.text, **fields)

    def _write_left_out(self, counts: list[tuple[str, int]]) -> None:
        """When no further line of a cause comes, say how many were left out."""
        for cause, left_out in counts:
            get_logger("native").warning("lines left out", cause=cause, left_out=left_out)


def _log_uncaught(args: threading.ExceptHookArgs) -> None:
    name = args.thread.name if args.thread else ""
    value = args.exc_value or args.exc_type()
    get_logger("process").error("a thread failed", thread=name, exc_info=value)


def _log_ignored(args: "sys.UnraisableHookArgs") -> None:
    value = args.exc_value or args.exc_type()
    what = args.err_msg or "an error was ignored"
    get_logger("process").error(what, where=repr(args.object)[:_MAX_TEXT], exc_info=value)
