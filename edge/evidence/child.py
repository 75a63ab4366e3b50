"""Runs the process that makes one clip, within limits: what hangs is killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from spillover.common.errors import UnavailableError
from spillover.common.processes import bound
from spillover.edge.evidence.encoder import HEAD
from spillover.edge.runtime.process import write_within

FEED_LIMIT_S = 20.0
"""How long the process may take before it takes more of a picture, its own start included."""
FINISH_LIMIT_S = 30.0
"""How long it may take from the last picture to the end."""
_COMMAND = ("-P", "-m", "spillover.edge.evidence.encoder")


class ClipEncoder:
    """One process. `feed` and `finish` are for one thread, `kill` for any."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process
        assert process.stdin is not None  # noqa: S101 - a pipe
        self._pipe = process.stdin.fileno()
        os.set_blocking(self._pipe, False)

    def feed(self, at_s: float, jpeg: bytes) -> None:
        """Hand over a picture. Raises UnavailableError: the process has ended, or hangs."""
        try:
            write_within(self._pipe, HEAD.pack(at_s, len(jpeg)) + jpeg, FEED_LIMIT_S)
        except TimeoutError as error:
            raise UnavailableError(f"it has taken no picture for {FEED_LIMIT_S:g} s") from error
        except OSError as error:
            raise UnavailableError(self._why()) from error

    def finish(self) -> bytes:
        """The clip. Raises UnavailableError: it cannot be made; the text says why."""
        try:
            clip, told = self._process.communicate(timeout=FINISH_LIMIT_S)
        except subprocess.TimeoutExpired as error:
            raise UnavailableError(f"it has not ended within {FINISH_LIMIT_S:g} s") from error
        if self._process.returncode:
            raise UnavailableError(_last_line(told, self._process.returncode))
        return clip

    def kill(self) -> None:
        """End it now."""
        with suppress(ProcessLookupError):
            self._process.kill()

    def _why(self) -> str:
        """Why it has closed its pipe."""
        self.kill()
        _, told = self._process.communicate()
        return _last_line(told, self._process.returncode)


@contextmanager
def clip_encoder() -> Iterator[ClipEncoder]:
    """Start the process; at the end it is gone. Raises UnavailableError: it cannot be started."""
    try:
        process = subprocess.Popen(
            bound([sys.executable, *_COMMAND], signal.SIGKILL),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,  # Ctrl-C is for the daemon, which ends the clip then
        )
    except OSError as error:
        raise UnavailableError(f"it cannot be started: {error.strerror}") from error
    with process:
        try:
            yield ClipEncoder(process)
        finally:
            process.kill()


def _last_line(told: bytes, code: int) -> str:
    lines = told.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"it ended with exit code {code}"
