"""Starts, awaits and stops child processes; none outlives this process."""

import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from spillover.common.errors import SpilloverError
from spillover.common.processes import bound

_POLL_S = 0.05


class ProcessFailedError(SpilloverError):
    """A child process failed; the text holds the end of its log."""


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Within the block SIGTERM unwinds the stack as Ctrl-C does and ends the process with code 143.

    So every context manager stops its processes; later SIGTERMs do not interrupt that.
    """
    if threading.current_thread() is not threading.main_thread():  # Python handles signals only there
        yield
        return

    def unwind(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)
        sys.exit(128 + number)

    previous = signal.signal(signal.SIGTERM, unwind)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


@contextlib.contextmanager
def running(
    arguments: Sequence[str],
    log_path: Path,
    *,
    python: str = sys.executable,
    stop_within_s: float = 30.0,
    prefix: Sequence[str] = (),
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `spillover <arguments>` by interpreter `python` while the block lasts, its output in `log_path`.

    A `prefix` is a command that becomes the one behind it, as `ip netns exec NAME` does. At the end of the
    block, or when this process is killed, it gets SIGTERM; SIGKILL if it is still there `stop_within_s`
    later.
    """
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            bound([*prefix, python, "-m", "spillover.common.cli", *arguments]),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            yield process
        finally:
            stop(process, stop_within_s)


def stop(process: subprocess.Popen[bytes], within_s: float) -> None:
    """SIGTERM, and SIGKILL after `within_s`; returns when the process is gone."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(within_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(within_s)


def wait_for_file(
    path: Path, process: subprocess.Popen[bytes], log_path: Path, *, limit_s: float = 60.0
) -> str:
    """The content of a file that `process` writes when it is ready.

    Raises:
        ProcessFailedError: the process ended first, or `limit_s` passed.
    """
    give_up_at = time.monotonic() + limit_s
    while not path.exists():
        if process.poll() is not None:
            raise ProcessFailedError(
                f"ended with code {process.returncode} before it was ready:\n{tail(log_path)}"
            )
        if time.monotonic() > give_up_at:
            raise ProcessFailedError(f"not ready after {limit_s:.0f} s:\n{tail(log_path)}")
        time.sleep(_POLL_S)
    return path.read_text(encoding="utf-8").strip()


def finish(process: subprocess.Popen[bytes], log_path: Path, *, limit_s: float) -> None:
    """Wait until `process` ends by itself.

    Raises:
        ProcessFailedError: it ended with an exit code other than 0, or `limit_s` passed.
    """
    try:
        code = process.wait(limit_s)
    except subprocess.TimeoutExpired:
        raise ProcessFailedError(f"did not end within {limit_s:.0f} s:\n{tail(log_path)}") from None
    if code:
        raise ProcessFailedError(f"ended with code {code}:\n{tail(log_path)}")


def tail(log_path: Path, lines: int = 15) -> str:
    """The last lines of a log."""
    return "\n".join(log_path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
